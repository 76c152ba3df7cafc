"""Deployment: the refs whose runs serve, so that a feature branch does not replace production.

A serving step selects a service of the category `prediction-serving`, or runs the image of a predictor. It belongs to a run only for a ref
that `deploy.refs` of the workflow matches; without `deploy.refs`, that is the default branch of the codeset. The runs of other refs have
neither the serving steps nor the steps that wait for them. With `deploy.preview`, their predictor steps serve a preview: an application of
a name of its own, until the ref is deleted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.documents import expression
from fuseml.domain.workflows import references, triggers
from fuseml.domain.workflows.models import EnvironmentVariable, Step, Workflow

CATEGORY = "prediction-serving"
"""The category of the services that serve predictions."""

PREVIEW_VARIABLE = "FUSEML_PREVIEW"
"""The variable with the name of the preview that a predictor step serves (step contract)."""

_BRANCHES = "refs/heads/"
_LONGEST_SLUG = 20


@dataclass(frozen=True, slots=True)
class Deployment:
    """The workflow as it runs for one ref, and a clause about the steps that the ref changes; empty when it changes none."""

    workflow: Workflow
    note: str = ""


def of_ref(workflow: Workflow, ref: str, default: str) -> Deployment:
    """The workflow for the full `ref`; `default` is the full name of the codeset's default branch.

    Raises InvalidError when no step is left.
    """
    serving = serving_steps(workflow)
    if not serving or is_deployed(workflow, ref, default):
        return Deployment(workflow)
    previewed = previewed_steps(workflow)
    left_out = _with_dependents(workflow, [name for name in serving if name not in previewed])
    kept = [_previewing(step, ref) if step.name in previewed else step for step in workflow.steps if step.name not in left_out]
    reason = (
        f"only {' and '.join(deployed_refs(workflow, default))} {'are' if len(deployed_refs(workflow, default)) > 1 else 'is'} deployed"
    )
    if not kept:
        raise errors.InvalidError(f"{ref} serves nothing: {reason}")
    outputs = {output.name for step in kept for output in step.outputs}
    produced = {output.name for step in workflow.steps for output in step.outputs}
    document = workflow.model_copy(
        update={"steps": kept, "outputs": [item for item in workflow.outputs if item.name in outputs or item.name not in produced]}
    )
    parts = [f"without {', '.join(left_out)}"] if left_out else []
    parts += (
        [f"with a preview by {', '.join(name for name in previewed if name not in left_out)}"] if set(previewed) - set(left_out) else []
    )
    return Deployment(document, f"{' and '.join(parts)}, because {reason}")


def serving_steps(workflow: Workflow) -> list[str]:
    """The names of the steps that serve, in order."""
    return [step.name for step in workflow.steps if _serves(step)]


def previewed_steps(workflow: Workflow) -> list[str]:
    """The names of the serving steps that serve other refs as previews."""
    wanted = workflow.deploy is not None and workflow.deploy.preview
    # Images of others do not read the variable, and would replace the application.
    return [step.name for step in workflow.steps if wanted and _serves(step) and _image_name(step) == "predictor"]


def is_deployed(workflow: Workflow, ref: str, default: str) -> bool:
    """Whether the serving steps of the workflow run for the full `ref`."""
    globs = (glob if glob.startswith("refs/") else _BRANCHES + glob for glob in deployed_refs(workflow, default))
    return any(triggers.matches_path(glob, ref) for glob in globs)


def deployed_refs(workflow: Workflow, default: str) -> Sequence[str]:
    """The globs of the deployed refs: those of the workflow, else the default branch."""
    return workflow.deploy.refs if workflow.deploy and workflow.deploy.refs else [default.removeprefix(_BRANCHES)]


def preview_name(ref: str) -> str:
    """The name of a ref's preview, a suffix of application names: lower-case letters, digits and `-`, unique for the ref."""
    slug = re.sub(r"[^a-z0-9]+", "-", ref.removeprefix(_BRANCHES).lower())[:_LONGEST_SLUG].strip("-")
    return "-".join(filter(None, (slug, hashlib.sha256(ref.encode(errors="surrogateescape")).hexdigest()[:6])))


def _serves(step: Step) -> bool:
    return any(requirement.service_category == CATEGORY for requirement in step.extensions) or _image_name(step).endswith("predictor")


def _image_name(step: Step) -> str:
    return step.image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _previewing(step: Step, ref: str) -> Step:
    variable = EnvironmentVariable(name=PREVIEW_VARIABLE, value=preview_name(ref))
    return step.model_copy(update={"env": [*(item for item in step.env if item.name != PREVIEW_VARIABLE), variable]})


def _with_dependents(workflow: Workflow, names: Sequence[str]) -> list[str]:
    """The steps of these names and all that wait for them, in the order of the document."""
    waits = {step.name: {*step.needs, *_read(step, scope)} for step, scope in references.scopes(workflow)}
    left_out: set[str] = set()
    more = set(names)
    while more:
        left_out |= more
        more = {name for name, others in waits.items() if name not in left_out and not others.isdisjoint(left_out)}
    return [step.name for step in workflow.steps if step.name in left_out]


def _read(step: Step, scope: expression.Scope) -> Iterator[str]:
    for use in references.texts(step):
        for node in expression.parse(use.text, scope.knows):
            if isinstance(node, expression.OutputReference):
                yield node.step
