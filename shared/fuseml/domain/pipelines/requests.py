"""What a composition is asked for: connections of inputs to outputs, and inputs of the workflow, read against the components."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.pipelines import components as parts
from fuseml.domain.pipelines.components import Component, Slot, Source
from fuseml.domain.runnables import matching, values
from fuseml.domain.runnables.descriptor import Input

MOST = 500
"""Connections, and inputs."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Requests:
    """`STEP.INPUT` -> its source, `STEP.INPUT` -> the default of the workflow's input (None without one), these inputs, and the problems."""

    connections: Mapping[str, Source]
    inputs: Mapping[str, str | None]
    opened: Sequence[Input]
    problems: Sequence[errors.Problem]


def read(components: Sequence[Component], connections: Sequence[str], inputs: Sequence[str]) -> Requests:
    """The requests, and a problem for each that cannot be met. Raises InvalidError for too many."""
    if max(len(connections), len(inputs)) > MOST:
        raise errors.InvalidError(f"a pipeline has at most {MOST} connections and as many inputs that are asked for")
    problems: list[errors.Problem] = []
    coupled: dict[str, Source] = {}
    opened: dict[str, str | None] = {}
    items: list[Input] = []
    for text in connections:
        connected = _attempt(problems, text, functools.partial(_connection, components, text))
        if connected is not None and not _is_repeated(problems, text, connected[0], coupled):
            coupled[str(connected[0])] = connected[1]
    for text in inputs:
        found = _attempt(problems, text, functools.partial(_input, components, text))
        if found is not None and not _is_repeated(problems, text, found[0], {**coupled, **opened}):
            opened[str(found[0])] = found[1]
            items.append(found[0].item)
    return Requests(coupled, opened, items, problems)


def _attempt(problems: list[errors.Problem], text: str, find: Callable[[], T]) -> T | None:
    try:
        return find()
    except errors.InvalidError as error:
        problems.append(errors.Problem(text[:200], error.message))
        return None


def _is_repeated(problems: list[errors.Problem], text: str, slot: Slot, known: Mapping[str, object]) -> bool:
    if str(slot) in known:
        problems.append(errors.Problem(text[:200], f"{slot} is given twice; leave one out"))
    return str(slot) in known


def _connection(components: Sequence[Component], text: str) -> tuple[Slot, Source]:
    left, sign, right = text.partition("=")
    if not sign:
        raise errors.InvalidError("a connection is STEP.INPUT=STEP.OUTPUT, such as trainer.image=builder.image")
    slot, source = _slot(components, left), _source(components, right)
    if slot.item.type == "codeset":
        raise errors.InvalidError(f"{slot} is a codeset, which is an input of the workflow and no output of a step")
    if components.index(source.component) >= components.index(slot.component):
        raise errors.InvalidError(f"{source.component.step!r} is no earlier step than {slot.component.step!r}; name its runnable before")
    match = matching.match(matching.of_output(source.output), slot.item)
    # Every output is text, so an input for text may take any.
    if match.verdict == "refused" and slot.item.type != "string":
        raise errors.InvalidError(f"{source} does not fit {slot}: {match}")
    return slot, source


def _input(components: Sequence[Component], text: str) -> tuple[Slot, str | None]:
    left, sign, value = text.partition("=")
    slot = _slot(components, left)
    if not sign:
        return slot, None
    if slot.item.type == "codeset":
        raise errors.InvalidError(f"{slot} is a codeset, which has no default: each run is on a codeset of its own")
    fault = values.fault(slot.item, value) if value or not slot.item.optional else ""
    if fault:
        raise errors.InvalidError(f"{slot}: {fault}")
    return slot, value


def _slot(components: Sequence[Component], text: str) -> Slot:
    component, name = _component(components, text, "STEP.INPUT")
    item = component.runnable.input(name)
    if item is None:
        raise errors.InvalidError(
            f"{component.registered} has no input {name[:100]!r}" + _hint(name, [i.name for i in component.runnable.inputs])
        )
    return Slot(component, item)


def _source(components: Sequence[Component], text: str) -> Source:
    component, name = _component(components, text, "STEP.OUTPUT")
    output = component.runnable.output(name)
    if output is None:
        known = [item.name for item in component.runnable.outputs]
        raise errors.InvalidError(f"{component.registered} has no output {name[:100]!r}" + _hint(name, known))
    return Source(component, output)


def _component(components: Sequence[Component], text: str, form: str) -> tuple[Component, str]:
    step, dot, name = text.strip().partition(".")
    if not dot or not name:
        raise errors.InvalidError(f"{text[:100]!r} is not {form}")
    component = parts.find(components, step)
    if component is None:
        raise errors.InvalidError(f"there is no step {step[:100]!r}" + _hint(step, [item.step for item in components]))
    return component, name


def _hint(name: str, known: Sequence[str]) -> str:
    near = document.nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"; there {'are' if len(known) > 1 else 'is'} {', '.join(known[:20]) or 'none'}"
