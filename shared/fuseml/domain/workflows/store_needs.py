"""The artifact stores that a step needs, as far as its document and the records of artifacts state them before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fuseml.domain import artifact, errors
from fuseml.domain.documents import expression
from fuseml.domain.registry import artifact_stores
from fuseml.domain.registry.selector import Selector
from fuseml.domain.workflows import artifact_rules, references
from fuseml.domain.workflows.models import ArtifactInput, ArtifactOutput, Step, Workflow

Held = Mapping[str, Selector | None]
"""Address or reference by tag -> the selector of the store that the record of the artifact names; None where it names none."""


@dataclass(frozen=True, slots=True)
class Need:
    """The store of one artifact of a step, under the `name` of its binding.

    It is the service that `wanted` selects or, without one, the best for the kind; it must have the operations. With `read_from`, the step
    reads from these stores only, and from a copy if the artifact is in another one.
    """

    name: str
    kind: str
    wanted: Selector | None
    operations: frozenset[str]
    read_from: Selector | None = None

    def selectors(self) -> Iterator[Selector]:
        """What may match a store for it, for a search of records."""
        yield Selector(service_category=artifact.STORE_CATEGORY) if self.wanted is None else artifact_stores.one_service(self.wanted)
        if self.read_from is not None:
            yield artifact_stores.of_category(self.read_from)


def addresses(workflow: Workflow) -> list[str]:
    """The texts of artifacts that the workflow names itself: plain addresses, and defaults of its inputs."""
    found = (
        _address(workflow, item.artifact, scope)
        for step, scope in references.scopes(workflow)
        for item in step.inputs
        if item.artifact and artifact_rules.producer(item.artifact, scope) is None
    )
    return list(dict.fromkeys(text for text in found if text))


def of_step(workflow: Workflow, step: Step, held: Held) -> list[Need]:
    """The stores of the artifacts of a step. Those of artifacts that only a run names are unknown, and left out."""
    made = artifact_rules.artifact_outputs(workflow)
    scope = next(scope for other, scope in references.scopes(workflow) if other.name == step.name)
    found: list[Need] = []
    for item in step.inputs:
        if item.artifact is None:
            continue
        source = artifact_rules.producer(item.artifact, scope)
        origin = made.get((source.step, source.output)) if source else None
        need = _written(item.name, origin) if origin else _read(item.name, workflow, item.artifact, scope, held)
        if need is not None:
            found.append(_as_read(need, item.artifact))
    return [
        *found,
        *(replace(_written(output.name, output.artifact), name=f"output {output.name}") for output in step.outputs if output.artifact),
    ]


def _written(name: str, made: ArtifactOutput) -> Need:
    return Need(f"input {name}", made.kind, made.store, artifact_stores.WRITES)


def _read(name: str, workflow: Workflow, declared: ArtifactInput, scope: expression.Scope, held: Held) -> Need | None:
    text = _address(workflow, declared, scope)
    if text not in held:
        # The text of another step, in a store that the document names.
        is_text = artifact_rules.is_output_text(declared, scope)
        return Need(f"input {name}", "", declared.store, artifact_stores.READS) if is_text and declared.store else None
    operations: frozenset[str] = frozenset() if declared.access == "reference" else artifact_stores.READS
    return Need(f"input {name}", artifact.reference(text).kind, held[text] or declared.store, operations)


def _as_read(need: Need, declared: ArtifactInput) -> Need:
    return replace(need, read_from=declared.store) if declared.access == "reference" and declared.store else need


def _address(workflow: Workflow, declared: ArtifactInput, scope: expression.Scope) -> str:
    """The plain text of an address, or the default of the input that it is; empty for any other one."""
    nodes, unreadable = expression.read(declared.address, scope.knows)
    text = declared.address if not expression.may_refer(declared.address) else ""
    match nodes:
        case [expression.InputReference(name, None)] if not unreadable:
            text = next((item.default or "" for item in workflow.inputs if item.name == name), "")
    try:
        artifact.reference(text)
    except errors.InvalidError:
        return ""
    return text
