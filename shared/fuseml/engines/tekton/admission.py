"""Admission: rejects plans that Tekton can never run, with the step and a remedy, before anything is created."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

from fuseml.domain import errors, labels, plans
from fuseml.domain.registry import credential_files
from fuseml.engines.tekton import names, tasks, values

_OWN_FOLDERS = ("/tekton/", "/fuseml/", "/fuseml-")
_NAME_RULE = "letters, digits, '-' and '_', beginning and ending with a letter or digit"


def admit(plan: plans.Plan, secrets: Mapping[str, str], *, image_builds: bool = True) -> None:
    """Raises PermanentError when the plan can never run on this engine, or when one of its secrets is missing.

    Without `image_builds`, no step may build an image.
    """
    if not names.is_label_value(plan.id):
        raise errors.PermanentError(f"{plan.id!r} is not a valid run id: it must be a valid value of a Kubernetes label")
    if not plan.steps:
        raise errors.PermanentError(f"run {plan.run} has no steps")
    outputs = {step.name: {output.name for output in step.outputs} for step in plan.steps}
    if len(outputs) != len(plan.steps):
        raise errors.PermanentError(f"run {plan.run} has two steps of the same name; rename one")
    for step in plan.steps:
        where = f"step {step.name!r}"
        _check_contract(step, where)
        if not image_builds and any(output.image is not None for output in step.outputs):
            raise errors.PermanentError(
                f"{where} builds an image in a privileged container, which this installation does not allow; "
                "let the step mlflow-builder make the image, or have an administrator run `task deploy -- --image-builds yes`"
            )
        _check_texts(step, where)
        _check_needs(step, where, outputs)
    try:
        graphlib.TopologicalSorter({step.name: step.needs for step in plan.steps}).prepare()
    except graphlib.CycleError as error:
        raise errors.PermanentError(
            f"run {plan.run}: the steps {' -> '.join(error.args[1])} form a cycle; remove one of their needs"
        ) from error
    for name, value in plan.outputs.items():
        _check_run_output(plan, name, value, outputs)
    for secret in plans.secret_refs(plan):
        if secret.ref not in secrets:
            raise errors.PermanentError(f"run {plan.run} was submitted without the secret {secret.ref}")
    for step in plan.steps:
        for part in plans.secret_files(step):
            if fault := credential_files.size_fault(part.key, secrets[part.ref]):
                raise errors.PermanentError(f"step {step.name!r}: {fault}")


def _check_run_output(plan: plans.Plan, name: str, value: plans.Value, outputs: Mapping[str, set[str]]) -> None:
    where = f"run {plan.run}"
    if not names.is_result(name):
        raise errors.PermanentError(f"{where}: {name!r} is not a valid name of an output: use {_NAME_RULE}")
    if any(isinstance(part, plans.SecretPart) for part in value):
        raise errors.PermanentError(f"{where}: the output {name!r} contains a secret, which it would publish; remove the secret from it")
    match value:
        case (plans.OutputPart() as part,):
            _check_output(part, where, outputs)
        case _ if values.is_dynamic(value):
            tasks.image_of(plan, value)


def _check_contract(step: plans.StepPlan, where: str) -> None:
    for output in step.outputs:
        if not names.is_result(output.name):
            raise errors.PermanentError(f"{where}: {output.name!r} is not a valid name of an output: use {_NAME_RULE}")
        if output.name.startswith(labels.AUXILIARY_PREFIX):
            raise errors.PermanentError(
                f"{where}: the names of outputs must not begin with {labels.AUXILIARY_PREFIX!r}; rename {output.name!r}"
            )
    for variable in step.variables:
        if not names.is_variable(variable.name):
            raise errors.PermanentError(
                f"{where}: {variable.name!r} is not a valid name of an environment variable in Kubernetes; rename it"
            )
    for checkout in step.checkouts:
        if ":" in checkout.path or f"{checkout.path}/".startswith("/tekton/"):
            raise errors.PermanentError(f"{where}: {checkout.path!r} is not a valid path for a codeset; an example: /project")
    _check_artifacts(step, where)
    built = [output.name for output in step.outputs if output.image is not None]
    if len(built) > 1:
        raise errors.PermanentError(f"{where} builds more than one image ({', '.join(map(repr, built))}); use one step for each image")
    if built and not step.checkouts:
        raise errors.PermanentError(f"{where} builds the image {built[0]!r} without a codeset; give the step a codeset as an input")
    written = [output.name for output in step.outputs if output.image is None]
    if written and any(output.image is not None and output.image.dockerfile for output in step.outputs):
        raise errors.PermanentError(
            f"{where} cannot write the output {written[0]!r}: with a dockerfile, it only builds the image {built[0]!r} and runs no program; "
            f"write the output in another step"
        )
    if step.files and any(output.image is not None for output in step.outputs):
        raise errors.PermanentError(f"{where} builds an image, and so it gets no files; give the input as a value without `file`")
    if step.script and any(output.image is not None and not output.image.dockerfile for output in step.outputs):
        raise errors.PermanentError(f"{where}: a script cannot select the Dockerfile of an image; set dockerfile under the output's image")


def _check_artifacts(step: plans.StepPlan, where: str) -> None:
    for fetch in step.fetches:
        if ":" in fetch.path or f"{fetch.path}/".startswith(_OWN_FOLDERS):
            raise errors.PermanentError(f"{where}: {fetch.path!r} is not a valid path for an artifact; an example: /data")
    for store in plans.stores_of(step):
        if store.url.startswith("file://"):
            raise errors.PermanentError(
                f"{where}: the artifact store {store.name} is a folder of one machine, which pods do not reach; use a bucket, or another store"
            )


def _check_texts(step: plans.StepPlan, where: str) -> None:
    """Check the fields that every reader of PipelineRuns can read, and in which Tekton's substitution of variables cannot be prevented."""
    compared = [value for condition in step.when for value in (condition.input, *condition.values)]
    images = [value for output in step.outputs if output.image for value in (output.image.name, output.image.dockerfile)]
    for value in (step.image, step.script, *step.command, *step.args, *compared, *images):
        secret = next((part for part in value if isinstance(part, plans.SecretPart)), None)
        if secret is not None:
            raise errors.PermanentError(
                f"{where} uses the secret {secret.key!r} in its image, command, script or condition; "
                "pass it as an input or in env, and read the variable"
            )
    conditions = values.undecided(step.when) or ()
    undecided = [value for condition in conditions for value in (condition.input, *condition.values)]
    fixed = [plans.text(checkout.directory) for checkout in step.checkouts]
    artifacts = [plans.text(fetch.path) for fetch in step.fetches]
    script = () if values.needs_mount(step.script) else step.script
    for field, texts in (
        ("image", [step.image]),
        ("condition", undecided),
        ("codeset's path", fixed),
        ("artifact's path", artifacts),
        ("script", [script]),
    ):
        if any(map(values.is_variable, texts)):
            remedy = "; pass the output as an input, and read the variable" if field == "script" else "; change the text"
            raise errors.PermanentError(
                f"{where}: its {field} contains text that Tekton would replace as a variable, such as $(params.x){remedy}"
            )


def _check_needs(step: plans.StepPlan, where: str, outputs: Mapping[str, set[str]]) -> None:
    unknown = [need for need in step.needs if need not in outputs]
    if unknown:
        raise errors.PermanentError(f"{where} needs {unknown[0]!r}, which is not a step of the run")
    for part in plans.parts_of(step):
        if isinstance(part, plans.OutputPart):
            _check_output(part, where, outputs)


def _check_output(part: plans.OutputPart, where: str, outputs: Mapping[str, set[str]]) -> None:
    if part.output not in outputs.get(part.step, ()):
        raise errors.PermanentError(f"{where} uses the output {part.output!r} of step {part.step!r}, which the run does not have")
