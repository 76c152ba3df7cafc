"""The inputs of a run: checked against those that the workflow declares, with defaults and parameters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from fuseml.domain import errors, workflows
from fuseml.domain.documents import document
from fuseml.domain.workflows import parameters

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def codesets(workflow: workflows.Workflow) -> list[str]:
    """The names of the inputs that are codesets, in order."""
    return [item.name for item in workflow.inputs if item.is_codeset]


def check_codesets(workflow: workflows.Workflow, given: Collection[str]) -> None:
    """Raises InvalidError unless `given` are the names of the codeset inputs."""
    names, suggestions = codesets(workflow), document.Suggestions()
    problems = [errors.Problem(f"inputs.{name}", "this input is a codeset, and none was given") for name in names if name not in given]
    problems += [
        errors.Problem(
            f"inputs.{name}", f"workflow {workflow.name!r} has no codeset input of this name", suggestion=suggestions.nearest(name, names)
        )
        for name in given
        if name not in names
    ]
    if problems:
        raise errors.InvalidError(f"the codesets do not fit the workflow: {problems[0]}", problems)


def values(workflow: workflows.Workflow, requested: Mapping[str, str]) -> dict[str, str]:
    """The value of each text input; inputs that are left out take their defaults. Raises InvalidError that lists missing and unknown ones."""
    given, problems = parameters.collected(workflow, requested)
    texts = [item for item in workflow.inputs if not item.is_codeset]
    names, suggestions = [item.name for item in texts], document.Suggestions()
    problems += [
        errors.Problem(f"inputs.{item.name}", "this input has no default, and no value was given")
        for item in texts
        if not item.is_optional and item.name not in given
    ]
    problems += [
        errors.Problem(f"inputs.{name}", f"workflow {workflow.name!r} has no such input", suggestion=suggestions.nearest(name, names))
        for name in given
        if name not in names
    ]
    chosen = {item.name: given.get(item.name, item.default or "") for item in texts}
    problems += [
        errors.Problem(f"inputs.{item.name}", f"{chosen[item.name][:40]!r} is not a number, such as 8, -0.5 or 1e-3")
        for item in texts
        # A default may be empty: the step then decides.
        if item.type == "number" and (item.name in given or chosen[item.name]) and not _NUMBER.fullmatch(chosen[item.name])
    ]
    if problems:
        raise errors.InvalidError(f"the inputs do not fit the workflow: {'; '.join(map(str, problems))}", problems)
    return chosen
