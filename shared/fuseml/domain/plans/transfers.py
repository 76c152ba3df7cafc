"""The variables of the programs that move the artifacts of a step: `fuseml.artifactstores.fetch` before it, `...collect` after it.

The step that copies an artifact to another store (`conversions`) is itself such a program, `fuseml.artifactstores.convert`.

Both engines start these programs beside the step, with these variables and no others of the plan. Variables of a store keep their names
behind a prefix, so that none of them has a meaning for the program itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import artifact, plans
from fuseml.domain.plans import conversions, identity
from fuseml.domain.workflows import artifact_rules

FETCH_MODULE = "fuseml.artifactstores.fetch"
COLLECT_MODULE = "fuseml.artifactstores.collect"
CONVERT_MODULE = "fuseml.artifactstores.convert"

FETCH, COLLECT = "FUSEML_FETCH", "FUSEML_COLLECT"
"""The prefixes of the variables of a program. Number N of a step's artifacts has those that begin with `PREFIX_N_`."""

WORK = "/fuseml-work"
"""The folder in which a container without a codeset runs if artifacts are made of its files."""

PROJECT = "FUSEML_TRANSFER_PROJECT"
_NO_FILES = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
"""The account of a store is in its variables: no file says more, above all none that another program has written."""

GIT_URL = "FUSEML_GIT_URL"
"""The variable of a store of pushed data with the address of the git host: the folder `file:///...` of this machine, or a server."""

STORE_VARIABLE = "STORE_VARIABLE_"
"""What precedes the name of a variable of the store."""


def contents(step: plans.StepPlan) -> list[plans.Fetch]:
    """The artifacts whose contents the step gets."""
    return [fetch for fetch in step.fetches if fetch.path]


def fetching(step: plans.StepPlan, project: str, targets: Mapping[str, str]) -> dict[str, plans.Value]:
    """The variables of the program that puts the contents at `targets` (input -> folder). Empty if there are none to put."""
    variables: dict[str, plans.Value] = {}
    for number, fetch in enumerate(contents(step)):
        facts = {"ADDRESS": fetch.stored or fetch.address, "TARGET": plans.text(targets[fetch.name]), **_store(fetch.store)}
        variables |= {f"{FETCH}_{number}_{name}": value for name, value in facts.items()}
    if not variables:
        return {}
    return variables | {name: plans.text(value) for name, value in {PROJECT: project, **_NO_FILES}.items()}


def collecting(step: plans.StepPlan, project: str, execution: str, folder: str) -> dict[str, plans.Value]:
    """The variables of the program that stores what the step has written in `folder`, its first checkout. `execution` is the id of the plan.

    The folder of the codeset is no part of `folder`: the step may have replaced it by a link, and the program looks for one below. Empty if there is nothing to store that the step has not stored itself. An anonymous artifact gets a name that no other run has.
    """
    variables: dict[str, plans.Value] = {}
    for number, collect in enumerate(item for item in step.collects if item.path):
        facts = {
            "OUTPUT": collect.output,
            "KIND": collect.kind,
            "NAME": collect.name or anonymous_name(identity.execution_of(execution)[0], step.name, collect.output),
            "PATH": collect.path,
            "FORMAT": collect.format,
        }
        values = {**{name: plans.text(value) for name, value in facts.items()}, **_store(collect.store)}
        variables |= {f"{COLLECT}_{number}_{name}": value for name, value in values.items()}
    if not variables:
        return {}
    uris = [output.name for output in step.outputs]
    shared = {
        PROJECT: project,
        **_NO_FILES,
        f"{COLLECT}_FOLDER": folder,
        f"{COLLECT}_CODESET_FOLDER": step.checkouts[0].folder if step.checkouts else "",
        f"{COLLECT}_OUTPUTS": " ".join(uris),
        f"{COLLECT}_PRODUCER": f"{execution}/{step.name}",
    }
    return variables | {name: plans.text(value) for name, value in shared.items()}


def converting(step: plans.StepPlan, project: str, execution: str) -> dict[str, plans.Value]:
    """The variables of the program that is a conversion: the artifact and its store, and the store of the copy. Empty for any other step."""
    if not conversions.is_conversion(step):
        return {}
    [fetch], [collect] = step.fetches, step.collects
    anonymous = anonymous_name(identity.execution_of(execution)[0], step.name, collect.output) if collect.anonymous else ""
    read = {"ADDRESS": fetch.address, **_store(fetch.store)}
    written = {"STORE": plans.text(collect.store.name), "NAME": plans.text(anonymous), **_store(collect.store)}
    return {
        **{f"{FETCH}_0_{name}": value for name, value in read.items()},
        **{f"{COLLECT}_0_{name}": value for name, value in written.items()},
        **{name: plans.text(value) for name, value in {PROJECT: project, **_NO_FILES}.items()},
        f"{COLLECT}_PRODUCER": plans.text(f"{execution}/{step.name}"),
    }


def anonymous_name(run_id: str, step: str, output: str) -> str:
    """The name of an anonymous artifact in its store."""
    return f"{artifact_rules.ANONYMOUS}{run_id}/{step}/{output}"


def is_anonymous(address: artifact.Address) -> bool:
    """Whether the address is that of an anonymous artifact."""
    return address.name.startswith(artifact_rules.ANONYMOUS)


def _store(store: plans.Store) -> dict[str, plans.Value]:
    named = {f"{STORE_VARIABLE}{item.name}": item.value for item in store.variables}
    return {"RESOURCE": plans.text(store.resource), "URL": plans.text(store.url), **named}
