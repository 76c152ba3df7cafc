"""Warnings and notes about the resources of steps. Each is a path within the workflow and a message."""

from __future__ import annotations

from collections.abc import Iterator

from fuseml.domain import workflows
from fuseml.domain.documents import document, expression
from fuseml.domain.workflows import resources

Warning = tuple[document.Path, str]


def devices(workflow: workflows.Workflow) -> Iterator[Warning]:
    """The devices that steps get."""
    for index, step in enumerate(workflow.steps):
        amounts = step.resources.limits.items()
        asked = [f"{amount} {name}" for name, amount in amounts if resources.is_extended(name) and not _is_zero(amount)]
        if asked:
            message = f"the step waits until {', '.join(asked)} is free, and has it alone; steps that ask for no device see none"
            yield ("steps", index, "resources", "limits"), message


def zeros(workflow: workflows.Workflow) -> Iterator[Warning]:
    """Amounts of resources that are zero in every run."""
    for index, step in enumerate(workflow.steps):
        for kind, amounts in (("requests", step.resources.requests), ("limits", step.resources.limits)):
            for name in (name for name, amount in amounts.items() if _is_zero(amount)):
                effect = (
                    "asks for no device" if resources.is_extended(name) else "limits nothing" if kind == "limits" else "reserves nothing"
                )
                yield (
                    ("steps", index, "resources", kind, name),
                    f"an amount of zero {effect}; remove it, or write the amount that the step needs",
                )


def _is_zero(amount: str) -> bool:
    return not expression.may_refer(amount) and not resources.quantity(amount)
