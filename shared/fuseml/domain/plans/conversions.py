"""Conversions: steps that copy an artifact to another store, for steps that read it from there only. The planner inserts them.

A copy is a further place of the same artifact, not another artifact. Its address in the store has a name that no artifact can have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import artifact, plans
from fuseml.domain.registry import selector
from fuseml.domain.runnables import builtin
from fuseml.domain.workflows import artifact_rules, step_names

NAME = "converter"
"""The built-in runnable."""

CONVERTER = "ghcr.io/fuseml/converter:v1"
"""Its image: engines run the program `fuseml.artifactstores.convert`."""

NOT_IN_DOCUMENTS = "a run adds the converter where it is needed: name the stores that a step reads by `store` of its input"
"""The refusal of a step of a workflow that is one."""

COPY = "copy"
"""The output with the address of the copy in its store."""

COPY_URI = f"{COPY}{artifact_rules.URI_SUFFIX}"
"""The output with the place of the copy."""

_READ = "artifact"
"""The input of the step."""


def is_conversion(step: plans.StepPlan) -> bool:
    """Whether the step copies an artifact to another store."""
    return step.image == plans.text(CONVERTER)


def copy_name(store: str, name: str) -> str:
    """The name in a store, `extension/service`, of the copies of an artifact's name. Stores may share a bucket, hence its own name in it."""
    return f"{artifact_rules.ANONYMOUS}copies/{store}/{name}"


def is_copy(address: artifact.Address, store: str, source: artifact.Address) -> bool:
    """Whether the address is that of a copy of the artifact `source` in the store."""
    copied = (source.kind, source.project, copy_name(store, source.name))
    return (address.kind, address.project, address.name) == copied


def listed(plan: plans.Plan, documented: Sequence[str]) -> list[str]:
    """The steps of the plan, those of the workflow as `documented`, and each conversion before the first step that needs it."""
    needs = {step.name: step.needs for step in plan.steps}
    reused = [step.name for step in plan.reused]
    added = dict.fromkeys(name for name in (*reused, *needs) if name not in documented)
    order = dict.fromkeys(name for name in reused if name in added)
    for name in documented:
        if name in needs or name in reused:
            order |= dict.fromkeys(need for need in needs.get(name, ()) if need in added)
            order[name] = None
    return list(order | added)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An artifact that a step reads from the store `target` only. `holder` is the store that has it.

    `kind` is that of the artifact, which is `anonymous` if it is recorded nowhere.
    """

    address: plans.Value
    asked: str
    kind: str
    anonymous: bool
    holder: selector.Binding
    target: selector.Binding


@dataclass(slots=True)
class Conversions:
    """The conversions of a run: one for each artifact and store, whatever the number of steps that read the copy.

    `taken` are the names of the other steps, `last` the steps after which a step of the workflow has ended. `store` is a binding as the
    store of a step.
    """

    taken: set[str]
    last: Mapping[str, Sequence[str]]
    store: Callable[[selector.Binding, str], plans.Store]
    bindings: dict[str, list[selector.Binding]] = field(default_factory=dict)
    _steps: dict[tuple[plans.Value, str], plans.StepPlan] = field(default_factory=dict)

    def of(self, wanted: Wanted, reader: str, name: str, retries: int) -> plans.StepPlan:
        """The conversion of an artifact that the step `reader` reads as its input `name`; a former one if another step reads the copy."""
        key = (wanted.address, f"{wanted.target.extension_id}/{wanted.target.service_id}")
        if key not in self._steps:
            free = step_names.free(step_names.of(f"{reader}-{name}-copy"), self.taken)
            self.taken.add(free)
            self._steps[key] = self._planned(wanted, free, retries)
        return self._steps[key]

    def steps(self) -> list[plans.StepPlan]:
        """All of them, in the order in which they were wanted."""
        return list(self._steps.values())

    def _planned(self, wanted: Wanted, name: str, retries: int) -> plans.StepPlan:
        self.bindings[name] = [
            wanted.holder.model_copy(update={"name": f"input {_READ}"}),
            wanted.target.model_copy(update={"name": f"output {COPY}"}),
        ]
        copied = plans.Collect(output=COPY, kind=wanted.kind, path="", store=self.store(wanted.target, name), copied=not wanted.anonymous)
        made_by = dict.fromkeys(part.step for part in wanted.address if isinstance(part, plans.OutputPart))
        return plans.StepPlan(
            name=name,
            image=plans.text(CONVERTER),
            runnable=builtin.address(builtin.by_name()[NAME]),
            fetches=(plans.Fetch(name=_READ, address=wanted.address, asked=wanted.asked, store=self.store(wanted.holder, name)),),
            outputs=(plans.Output(name=COPY), plans.Output(name=COPY_URI)),
            collects=(copied,),
            needs=tuple(last for step in made_by for last in self.last[step]),
            retries=retries,
            cache=plans.Caching(),
        )
