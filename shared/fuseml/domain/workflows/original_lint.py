"""Warnings about workflows that were written for the original FuseML: what it accepted, and what has another meaning now."""

from __future__ import annotations

from collections.abc import Iterator

from fuseml.domain.documents import document
from fuseml.domain.registry import former_constraint
from fuseml.domain.workflows import references
from fuseml.domain.workflows.models import Workflow


def repetitions(workflow: Workflow) -> Iterator[tuple[document.Path, str]]:
    """Inputs of the workflow and of steps that are repeated with the same value."""
    lists: list[tuple[document.Path, frozenset[int], list[str]]] = [
        (("inputs",), references.repetitions(workflow.inputs), [item.name for item in workflow.inputs]),
        *(
            (("steps", index, "inputs"), references.repetitions(step.inputs), [item.name for item in step.inputs])
            for index, step in enumerate(workflow.steps)
        ),
    ]
    for path, repeated, names in lists:
        for index in sorted(repeated):
            yield (*path, index, "name"), f"the input {names[index]!r} is repeated with the same value; remove one of the two"


def constraints(workflow: Workflow) -> Iterator[tuple[document.Path, str]]:
    """Version constraints of selectors whose meaning has changed."""
    for number, step in enumerate(workflow.steps):
        for index, requirement in enumerate(step.extensions):
            for change in former_constraint.changes(requirement.version) if requirement.version else ():
                place: document.Path = ("steps", number, "extensions", index, "version")
                yield place, f"since the original FuseML the constraint has changed: {change}"
