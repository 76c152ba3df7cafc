"""The artifacts that count as a change for a workflow: an input of a runnable may watch metrics of a model, or fields of a dataset.

A step that reads the artifact without watching counts every artifact as a change, and one step for which it counts is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseml.domain import errors
from fuseml.domain.artifacts import conditions, subscription
from fuseml.domain.documents import expression
from fuseml.domain.runnables.descriptor import Runnable, Watch
from fuseml.domain.workflows.models import StepInput, Workflow

Facts = Mapping[str, object]
"""The fields of an artifact's descriptor, and its metadata by their names."""


def input_for(workflow: Workflow, kind: str) -> str | None:
    """The workflow's input that takes an artifact of this kind when one starts a run: the first of the type, else one of that name."""
    by_type = [item.name for item in workflow.inputs if item.type == kind]
    by_name = [item.name for item in workflow.inputs if item.name == kind]
    return next(iter([*by_type, *by_name]), None)


def watches(workflow: Workflow, kind: str, runnables: Mapping[str, Runnable]) -> list[Watch]:
    """What the steps that read the artifact watch of it, an empty `Watch` for each that watches nothing. `runnables` are those of the steps."""
    name = input_for(workflow, kind)
    found: list[Watch] = []
    for step in workflow.steps:
        for item in step.inputs:
            if name is not None and _reads(item, name):
                runnable = runnables.get(step.name)
                declared = runnable.input(item.name) if runnable else None
                found.append(declared.watch if declared else Watch())
    return found


def narrowed(patterns: Sequence[subscription.Subscription], watched: Sequence[Watch]) -> list[subscription.Subscription]:
    """The patterns with the conditions on metrics that the steps watch: an artifact starts a run if it passes one of them."""
    terms = [_stored(watch.metrics) for watch in watched]
    if not terms or not all(terms):
        return list(patterns)
    return [pattern.narrowed(term) for pattern in patterns for term in dict.fromkeys(map(tuple, terms))]


def unchanged(watched: Sequence[Watch], facts: Facts, before: Facts | None) -> str:
    """The reason for which a new version is no change for any step, as a clause; empty if it is one. `before` is the version before it, if any."""
    if before is None or not watched or not all(watch.fields for watch in watched):
        return ""
    fields = sorted({field for watch in watched for field in watch.fields})
    if any(facts.get(field) != before.get(field) for field in fields):
        return ""
    return f"{', '.join(fields)} {'is' if len(fields) == 1 else 'are'} as before"


def _stored(text: str) -> list[conditions.Condition]:
    try:
        return conditions.comparisons(text) if text else []
    except errors.InvalidError:
        # A former release registered runnables with any text here.
        return []


def _reads(item: StepInput, name: str) -> bool:
    texts = [str(item.value)] if item.value is not None else []
    if item.artifact is not None:
        texts.append(item.artifact.address)
    return any(
        isinstance(node, expression.InputReference) and node.name == name
        for text in texts
        for node in expression.parse(text, lambda reference: isinstance(reference, expression.InputReference) and reference.name == name)
    )
