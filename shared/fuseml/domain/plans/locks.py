"""The lock of a run: the artifacts that its stored plan names. A locked repetition needs them again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fuseml.domain import artifact, errors, plans
from fuseml.domain.plans import image_building

_CANDIDATE = re.compile(rf"(?:{'|'.join(artifact.KINDS)})://[^\s'\"<>,;|&*@]+|models:/[^/@\s]+/\d+")
_MOST = 5000


def named(plan: plans.Plan) -> list[str]:
    """The addresses of artifacts in the plan, sorted: commits, images of runnables, artifacts that steps read, and all others in its texts."""
    found = {str(artifact.code(item.project, item.codeset, item.commit)) for step in plan.steps for item in step.checkouts}
    found |= {str(image) for step in plan.steps if (image := image_building.image_of(step, plan.project))}
    for text in _texts(plan):
        found.update(of_text(plan.project, text))
    return sorted(found)[:_MOST]


def of_text(project: str, text: str) -> Iterator[str]:
    """The addresses of artifacts in a text; `models:/NAME/VERSION` is a model of the project."""
    for candidate in _CANDIDATE.findall(text):
        model = artifact.model_of(project, candidate)
        if model is not None:
            yield str(model)
            continue
        try:
            yield str(artifact.Address.parse(candidate[: artifact.LONGEST]))
        except errors.InvalidError:
            # Text that only looks like an address.
            continue


def _texts(plan: plans.Plan) -> Iterable[str]:
    yield from plan.inputs.values()
    for reused in plan.reused:
        yield from reused.outputs.values()
    for step in plan.steps:
        yield step.runnable
        yield from (file.text for file in step.files)
        yield from (part.text for part in plans.parts_of(step) if isinstance(part, plans.TextPart))


def anonymous(plan: plans.Plan) -> list[tuple[str, plans.Collect]]:
    """The anonymous artifacts that the run makes, each with its step."""
    return [(step.name, collect) for step in plan.steps for collect in step.collects if collect.anonymous]
