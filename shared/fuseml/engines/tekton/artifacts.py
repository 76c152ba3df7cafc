"""The containers and volumes that move the artifacts of a step in its pod: one before its own containers, and the one that checks outputs.

Each artifact that the step reads has a volume of its own, which the step cannot change. Only these containers have the accounts of stores.
"""

from __future__ import annotations

from fuseml.domain import plans
from fuseml.domain.plans import transfers
from fuseml.engines.tekton import amounts, settings, values
from fuseml.engines.tekton.values import Object

RESULTS = "/tekton/results"
HOME = "/tekton/home"
"""Tekton's folder for a home: writable by every user, which the home of an image is not."""
NO_HOME = "/nonexistent"
CONFINED: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""With the context of the pod (`render`), what Pod Security `restricted` requires of a container."""

_INPUTS = "/fuseml-inputs"


def around(
    step: plans.StepPlan,
    plan: plans.Plan,
    containers: list[Object],
    parameters: values.Parameters,
    bundle: values.SecretBundle,
    settings: settings.Settings,
) -> tuple[list[Object], list[Object]]:
    """The containers with the one that fetches before them, and the volumes of the artifacts."""
    fetched = transfers.contents(step)
    names = [f"input-{number}" for number in range(len(fetched))]
    mounts: list[Object] = [{"name": name, "mountPath": fetch.path, "readOnly": True} for name, fetch in zip(names, fetched, strict=True)]
    work = _work(step)
    before = [_fetch(step, plan, names, parameters, bundle, settings)] if fetched else []
    own = [_with_mounts(container, [*mounts, *work.get("volumeMounts", [])]) | _folder(work) for container in containers]
    volumes: list[Object] = [
        {"name": name, "emptyDir": {}} for name in (*names, *(mount["name"] for mount in work.get("volumeMounts", [])))
    ]
    return [*before, *own], volumes


def collecting(step: plans.StepPlan, plan: plans.Plan, parameters: values.Parameters, bundle: values.SecretBundle) -> Object:
    """The part of the checking container by which it stores the artifacts of the step; empty without any."""
    folder = step.checkouts[0].path if step.checkouts else transfers.WORK
    variables = transfers.collecting(step, plan.project, plan.id, folder)
    if not variables:
        return {}
    # The step may have written to HOME, and a client may execute what a configuration there says.
    variables |= {"HOME": plans.text(NO_HOME), "FUSEML_ENV_RESULTS": plans.text(RESULTS)}
    return {
        "env": values.Writer(bundle, parameters, variables).environment(),
        **{key: value for key, value in _work(step).items() if key == "volumeMounts"},
    }


def converting(
    step: plans.StepPlan, plan: plans.Plan, parameters: values.Parameters, bundle: values.SecretBundle, settings: settings.Settings
) -> Object:
    """The container that copies an artifact to another store, which is the whole of such a step; empty for any other one."""
    variables = transfers.converting(step, plan.project, plan.id)
    if not variables:
        return {}
    variables |= {"HOME": plans.text(HOME), "FUSEML_ENV_RESULTS": plans.text(RESULTS)}
    return {
        "name": "convert",
        "image": settings.check_image,
        "command": ["python3", "-P", "-m", transfers.CONVERT_MODULE],
        "env": values.Writer(bundle, parameters, variables).environment(),
        "computeResources": amounts.of_step(step, settings),
        "securityContext": CONFINED,
    }


def _fetch(
    step: plans.StepPlan,
    plan: plans.Plan,
    names: list[str],
    parameters: values.Parameters,
    bundle: values.SecretBundle,
    settings: settings.Settings,
) -> Object:
    fetched = transfers.contents(step)
    targets = {fetch.name: f"{_INPUTS}/{name}" for name, fetch in zip(names, fetched, strict=True)}
    variables = {**transfers.fetching(step, plan.project, targets), "HOME": plans.text(HOME)}
    return {
        "name": "fetch",
        "image": settings.check_image,
        "command": ["python3", "-P", "-m", transfers.FETCH_MODULE],
        "env": values.Writer(bundle, parameters, variables).environment(),
        "volumeMounts": [{"name": name, "mountPath": f"{_INPUTS}/{name}"} for name in names],
        "computeResources": amounts.AUXILIARY,
        "securityContext": CONFINED,
    }


def _work(step: plans.StepPlan) -> Object:
    """The folder of a step without a codeset whose files become artifacts: that of its image is not shared with another container."""
    if step.checkouts or not step.collects:
        return {}
    return {"workingDir": transfers.WORK, "volumeMounts": [{"name": "work", "mountPath": transfers.WORK}]}


def _folder(work: Object) -> Object:
    return {"workingDir": work["workingDir"]} if work else {}


def _with_mounts(container: Object, mounts: list[Object]) -> Object:
    return container | ({"volumeMounts": [*container.get("volumeMounts", []), *mounts]} if mounts else {})
