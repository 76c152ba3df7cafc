"""The components of a pipeline: runnables in the order of their steps, each under a name of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.runnables import reference
from fuseml.domain.runnables.descriptor import Input, Output, Runnable
from fuseml.domain.runnables.steps import Registered
from fuseml.domain.workflows import step_names

MOST = 50
"""Components of one pipeline."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A runnable that a pipeline is to have, and the name that its step is given; empty for one of its own."""

    reference: reference.Reference
    step: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """A step: its name, the reference to its runnable as it was written, and the version that it stands for."""

    step: str
    reference: str
    registered: Registered

    @property
    def runnable(self) -> Runnable:
        return self.registered.runnable


@dataclass(frozen=True, slots=True)
class Slot:
    """An input of a component."""

    component: Component
    item: Input

    def __str__(self) -> str:
        return f"{self.component.step}.{self.item.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """An output of a component."""

    component: Component
    output: Output

    def __str__(self) -> str:
        return f"{self.component.step}.{self.output.name}"


def wanted(texts: Sequence[str]) -> list[Wanted]:
    """Read `RUNNABLE`, `RUNNABLE@CONSTRAINT` or `STEP=RUNNABLE`, each. Raises InvalidError."""
    if not texts or len(texts) > MOST:
        raise errors.InvalidError(f"a pipeline is composed of 1 to {MOST} runnables, and {len(texts)} are given")
    found: list[Wanted] = []
    for text in texts:
        # A constraint may hold the sign, too: trainer@>=1.2.
        match = re.fullmatch(r"([^=@]+)=(.+)", text)
        step, named = (match[1], match[2]) if match else ("", text)
        found.append(Wanted(reference.parse(named), step))
    return found


def named(found: Sequence[tuple[Wanted, Registered]]) -> list[Component]:
    """The components, each under its given name, else under its kind if the name of its runnable ends with it (`mlflow-trainer`: `trainer`), else
    under the name of its runnable; repeated names are numbered.

    Raises InvalidError for a given name that is repeated.
    """
    given = Counter(item.step for item, _ in found if item.step)
    repeated = next((name for name, number in given.items() if number > 1), None)
    if repeated:
        raise errors.InvalidError(f"two steps are named {repeated!r}; choose another name for one of them")
    kinds = Counter(registered.runnable.kind for item, registered in found if not item.step)
    taken = set(given)
    components: list[Component] = []
    for item, registered in found:
        runnable = registered.runnable
        is_kind = kinds[runnable.kind] == 1 and f"-{runnable.name}".endswith(f"-{runnable.kind}")
        name = item.step or step_names.free(runnable.kind if is_kind else step_names.of(runnable.name), taken)
        taken.add(name)
        components.append(Component(name, str(item.reference), registered))
    return components


def find(components: Sequence[Component], name: str) -> Component | None:
    """The component of the step name or, where only one has it, of the runnable's name."""
    by_step = next((component for component in components if component.step == name), None)
    by_runnable = [component for component in components if component.runnable.name == name]
    return by_step or (by_runnable[0] if len(by_runnable) == 1 else None)
