"""Parameters of a training: the values of an input of the type `parameters`, `name=value name=value` in the quoting of a shell.

A run gives them by their own names, like inputs of the workflow, so a workflow need not declare those of its codesets.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.workflows.models import PARAMETERS, Workflow

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_RULE = "letters, digits, '_', '.' and '-', at most 100, beginning with a letter, digit or '_'"


def parse(text: str) -> dict[str, str]:
    """The values by name. Raises InvalidError for a text that is not a list of pairs."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise errors.InvalidError(f"{text[:100]!r} cannot be split into name=value pairs: {error}") from None
    pairs = [word.partition("=") for word in words]
    for name, sign, _ in pairs:
        if not sign or not _NAME.fullmatch(name):
            raise errors.InvalidError(f"{name[:100]!r} is not name=value; write pairs separated by spaces, with a name of {_RULE}")
    return {name: value for name, _, value in pairs}


def render(values: Mapping[str, str]) -> str:
    """The text of the values; `parse` reads it."""
    return " ".join(shlex.quote(f"{name}={value}") for name, value in values.items())


def holder(workflow: Workflow) -> str | None:
    """The name of the input that takes undeclared inputs of a run; None without one, and each undeclared input is a mistake then."""
    return next((item.name for item in workflow.inputs if item.type == PARAMETERS), None)


def collected(workflow: Workflow, given: Mapping[str, str]) -> tuple[dict[str, str], list[errors.Problem]]:
    """The given inputs with the undeclared ones in the workflow's input of the type `parameters`, and the problems with these.

    A name that resembles a declared input is a problem: it is probably misspelt. Written in the input itself, it is none.
    """
    name = holder(workflow)
    if name is None:
        return dict(given), []
    declared = [item.name for item in workflow.inputs]
    suggestions = document.Suggestions()
    problems: list[errors.Problem] = []
    extra: dict[str, str] = {}
    for given_name, value in given.items():
        if given_name in declared:
            continue
        near = suggestions.nearest(given_name, declared)
        if near:
            message = (
                f"workflow {workflow.name!r} has no such input; if it is a parameter of the code, write -i '{name}={given_name}=VALUE'"
            )
            problems.append(errors.Problem(f"inputs.{given_name}", message, suggestion=near))
        elif not _NAME.fullmatch(given_name):
            problems.append(errors.Problem(f"inputs.{given_name[:100]}", f"the name of a parameter has {_RULE}"))
        extra[given_name] = value
    values = {given_name: value for given_name, value in given.items() if given_name in declared}
    default = next(item.default or "" for item in workflow.inputs if item.name == name)
    try:
        explicit = parse(values.get(name, default))
    except errors.InvalidError as error:
        return values, [*problems, errors.Problem(f"inputs.{name}", error.message)]
    return {**values, name: render({**explicit, **extra})}, problems
