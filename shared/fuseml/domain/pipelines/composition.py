"""Composition of a pipeline: outputs of earlier components are matched to the inputs of later ones, with an explanation for each.

An artifact goes to an input of its type, text to an input of its own name or of a name that the input takes. What remains open becomes an
input of the workflow if it is an artifact, and a problem if it is a value. Two outputs that fit alike are a problem, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.pipelines import requests
from fuseml.domain.pipelines.components import Component, Slot, Source
from fuseml.domain.runnables import matching, steps
from fuseml.domain.runnables.descriptor import Input
from fuseml.domain.workflows import Workflow, loading, rules
from fuseml.domain.workflows.models import CODESET, PARAMETERS

_SHOWN = 5
_ORDER: Sequence[matching.Verdict] = ("fits", "unknown")


@dataclass(frozen=True, slots=True)
class Coupling:
    """What an input of a step gets: `STEP.OUTPUT`, or `inputs.NAME` for an input of the workflow, and why."""

    input: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Composition:
    """The document of a workflow that keeps all rules, and its couplings."""

    document: Mapping[str, Any]
    workflow: Workflow
    couplings: Sequence[Coupling]


def compose(
    name: str, components: Sequence[Component], connections: Sequence[str] = (), inputs: Sequence[str] = (), description: str = ""
) -> Composition:
    """The workflow of the components, in their order.

    `connections` are `STEP.INPUT=STEP.OUTPUT`; `inputs` are `STEP.INPUT`, which becomes an input of the workflow, or `STEP.INPUT=VALUE`, which
    becomes one with this default. Raises InvalidError with every input that is missing, ambiguous or wrongly connected, and with what to do.
    """
    asked = requests.read(components, connections, inputs)
    composer = _Composer(components, asked, list(asked.problems))
    parts = composer.parts()
    if composer.problems:
        more = f" (and {len(composer.problems) - 1} more)" if len(composer.problems) > 1 else ""
        raise errors.InvalidError(f"the pipeline cannot be composed: {composer.problems[0]}{more}", composer.problems)
    described = description or "Composed of " + ", ".join(component.reference for component in components) + "."
    outputs = _outputs(components, composer.used)
    written = {"name": name, "description": described, "inputs": list(composer.inputs.values()), "outputs": outputs, "steps": parts}
    kept = {key: value for key, value in written.items() if value}
    return Composition(kept, _checked(kept, components), composer.couplings)


@dataclass(slots=True)
class _Composer:
    components: Sequence[Component]
    asked: requests.Requests
    problems: list[errors.Problem]
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    couplings: list[Coupling] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)

    def parts(self) -> list[dict[str, Any]]:
        """The steps of the document. `problems` has what prevents them."""
        given = [[self._given(Slot(component, item)) for item in component.runnable.inputs] for component in self.components]
        written: list[dict[str, Any]] = []
        for component, items in zip(self.components, given, strict=True):
            outputs = [
                {"name": output.name}
                for output in component.runnable.outputs
                if not output.optional or (component.step, output.name) in self.used
            ]
            part = {"name": component.step, "runnable": component.reference, "inputs": [item for item in items if item], "outputs": outputs}
            written.append({key: value for key, value in part.items() if value})
        return written

    def _given(self, slot: Slot) -> dict[str, Any] | None:
        """The input in the step; None for one that is left out."""
        connected = self.asked.connections.get(str(slot))
        if connected is not None:
            return self._coupled(slot, connected, "it was asked for")
        if str(slot) in self.asked.inputs:
            return self._opened(slot, self.asked.inputs[str(slot)], "it was asked for")
        if slot.item.type == CODESET:
            return self._codeset(slot)
        earlier = self.components[: self.components.index(slot.component)]
        sources = [Source(component, output) for component in earlier for output in component.runnable.outputs if not output.optional]
        judged = [(source, matching.match(matching.of_output(source.output), slot.item)) for source in sources]
        if not slot.item.is_artifact:
            return self._value(slot, judged)
        return self._artifact(slot, judged)

    def _codeset(self, slot: Slot) -> dict[str, Any] | None:
        """A run has one codeset, so all steps get the same; one that may do without gets it if another step needs it."""
        needs = any(item.type == CODESET and item.needs_value for component in self.components for item in component.runnable.inputs)
        wants = any(item.type == CODESET for item in self.asked.opened)
        if not slot.item.needs_value and not needs and not wants:
            return None
        return self._opened(slot, None, "every codeset of a pipeline is that of its run")

    def _value(self, slot: Slot, judged: Sequence[tuple[Source, matching.Match]]) -> dict[str, Any] | None:
        names = (slot.item.name, *slot.item.takes)
        candidates = [(source, match) for source, match in judged if source.output.name in names]
        fitting = [(source, match) for source, match in candidates if match.fits]
        own = [(source, match) for source, match in fitting if source.output.name == slot.item.name]
        if len(fitting) == 1 or len(own) == 1:
            source, match = own[0] if own else fitting[0]
            return self._coupled(slot, source, f"it takes text of the name {source.output.name!r}, and {match}")
        if fitting:
            self._ambiguous(slot, [source for source, _ in fitting])
        elif slot.item.needs_value:
            self._missing(slot, candidates)
        return None

    def _artifact(self, slot: Slot, judged: Sequence[tuple[Source, matching.Match]]) -> dict[str, Any] | None:
        of_type = [(source, match) for source, match in judged if match.reasons[0].verdict == "fits"]
        for verdict in _ORDER if slot.item.needs_value else _ORDER[:1]:
            candidates = [(source, match) for source, match in of_type if match.verdict == verdict]
            named = [pair for pair in candidates if pair[0].output.name in (slot.item.name, *slot.item.takes)]
            if len(candidates) == 1 or len(named) == 1:
                source, match = candidates[0] if len(candidates) == 1 else named[0]
                return self._coupled(slot, source, f"it {'fits' if verdict == 'fits' else 'may fit'}: {match}")
            if candidates:
                self._ambiguous(slot, [source for source, _ in candidates])
                return None
        if slot.item.needs_value and of_type:
            self._missing(slot, of_type)
        elif slot.item.needs_value:
            return self._opened(slot, None, f"no earlier step gives a {slot.item.type}")
        return None

    def _coupled(self, slot: Slot, source: Source, reason: str) -> dict[str, Any]:
        self.used.add((source.component.step, source.output.name))
        self.couplings.append(Coupling(str(slot), str(source), reason))
        return {"name": slot.item.name, "value": f"{{{{ steps.{source.component.step}.outputs.{source.output.name} }}}}"}

    def _opened(self, slot: Slot, default: str | None, reason: str) -> dict[str, Any]:
        """The input as one of the workflow; inputs of one name and meaning are one."""
        declared = _declaration(slot.item, default)
        if slot.item.type == CODESET:
            name = next((other for other, item in self.inputs.items() if item["type"] == CODESET), slot.item.name)
        else:
            name = next(name for name in _names(slot) if self._may_be(name, declared))
        self.inputs.setdefault(name, {"name": name, **declared})
        self.couplings.append(Coupling(str(slot), f"inputs.{name}", reason))
        if slot.item.type == CODESET:
            return {"name": slot.item.name, "codeset": self._mount(slot, name)}
        return {"name": slot.item.name, "value": f"{{{{ inputs.{name} }}}}"}

    def _may_be(self, name: str, declared: Mapping[str, Any]) -> bool:
        """Whether an input of the workflow of this name means the same, or does not exist."""
        known = self.inputs.get(name)
        return known is None or (known["type"], known.get("default")) == (declared["type"], declared.get("default"))

    @staticmethod
    def _mount(slot: Slot, name: str) -> dict[str, Any]:
        codesets = [item.name for item in slot.component.runnable.inputs if item.type == CODESET]
        # Two checkouts of a step need two places.
        return {"name": name, **({} if slot.item.name == codesets[0] else {"path": f"/codesets/{slot.item.name}"})}

    def _ambiguous(self, slot: Slot, sources: Sequence[Source]) -> None:
        listed = ", ".join(str(source) for source in sources[:_SHOWN])
        more = f" and {len(sources) - _SHOWN} more" if len(sources) > _SHOWN else ""
        remedy = f"choose one, for example with --connect {slot}={sources[-1]}"
        self.problems.append(errors.Problem(str(slot), f"several outputs fit alike: {listed}{more}; {remedy}"))

    def _missing(self, slot: Slot, refused: Sequence[tuple[Source, matching.Match]]) -> None:
        what = f"the {slot.item.type}" + (f" ({slot.item.description})" if slot.item.description else "")
        reasons = "; ".join(f"{source} does not fit: {match}" for source, match in refused[:_SHOWN])
        because = f" ({reasons})" if reasons else ""
        remedy = f"--input {slot} makes it an input of the workflow, --input {slot}=VALUE with a default, --connect {slot}=STEP.OUTPUT couples it"
        self.problems.append(errors.Problem(str(slot), f"no earlier step gives {what}{because}; {remedy}"))


def _names(slot: Slot) -> Iterator[str]:
    """The names for an input of a step in the workflow, the best one first."""
    long = f"{slot.component.step}-{slot.item.name}"
    yield from (slot.item.name, long)
    yield from (f"{long}-{number}" for number in itertools.count(2))


def _declaration(item: Input, default: str | None) -> dict[str, Any]:
    """The input of the workflow for an input of a runnable."""
    is_list = item.type == "string" and item.name == PARAMETERS
    value = default if default is not None else item.default if item.default is not None else "" if item.optional else None
    if item.type == CODESET or (is_list and not value):
        value = None
    return {
        **({"description": item.description} if item.description else {}),
        "type": PARAMETERS if is_list else item.type,
        **({} if value is None else {"default": value}),
    }


def _outputs(components: Sequence[Component], used: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """The outputs of the workflow: those that no other step takes, under names that only one step has."""
    listed = [
        (component, output)
        for component in components
        for output in component.runnable.outputs
        if not output.optional or (component.step, output.name) in used
    ]
    names = [output.name for _, output in listed]
    return [
        {"name": output.name, **({"description": output.description} if output.description else {}), "type": output.type}
        for component, output in listed
        if (component.step, output.name) not in used and names.count(output.name) == 1
    ]


def _checked(written: Mapping[str, Any], components: Sequence[Component]) -> Workflow:
    """The workflow in the document. Raises InvalidError for a name that no workflow may have, and for runnables that cannot run as steps."""
    workflow = loading.check(document.Parsed(dict(written)))
    expansion = steps.expand(workflow, {component.step: component.registered for component in components})
    steps.check(expansion)
    plain = [step.model_copy(update={"runnable": ""}) for step in expansion.workflow.steps]
    problems = rules.problems(expansion.workflow.model_copy(update={"steps": plain}), lambda _: None)
    if problems:
        raise errors.InvalidError(f"the pipeline cannot be composed: {problems[0]}", problems)
    return workflow
