"""The record of a run: its plan, its steps, and the artifacts and edges that it has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import artifact, plans


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """The descriptor of an artifact. One that is deleted, or not recorded, has only its address."""

    address: str
    digest: str | None = None
    size: int | None = None
    type: str | None = None
    format: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    location: str | None = None
    external: bool = False
    run: str | None = None
    step: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """`step` produced `target` from `source`; without a step, a caller that named only the run."""

    source: str
    target: str
    step: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of the run. `reused_from` is the run that executed it, where this one only reuses its outputs."""

    name: str
    state: str
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    reused_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run. `repository` is the URL of its codeset without an account. `artifacts` are those at the ends of `edges` and those it produced,
    by address. Times are RFC 3339. `plan` is None for a run that could not be planned.
    """

    id: str
    name: str
    workflow: str
    revision: int
    project: str
    state: str
    created: str
    codeset: str | None = None
    commit: str | None = None
    ref: str | None = None
    repository: str = ""
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    plan: plans.Plan | None = None
    steps: Sequence[StepRecord] = ()
    edges: Sequence[Edge] = ()
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)

    @property
    def code(self) -> str | None:
        """The address of the run's codeset version."""
        return str(artifact.code(self.project, self.codeset, self.commit)) if self.codeset and self.commit else None

    @property
    def products(self) -> list[ArtifactRecord]:
        """The artifacts that the run produced, by address; also those that another run had recorded before."""
        made = {address for address, item in self.artifacts.items() if item.run == self.name} | {edge.target for edge in self.edges}
        made |= set(named_outputs(self.project, self.steps)) & self.artifacts.keys()
        return [self.of(address) for address in sorted(made)]

    def of(self, address: str) -> ArtifactRecord:
        """The record of an artifact."""
        return self.artifacts.get(address) or ArtifactRecord(address)


def named_outputs(project: str, steps: Iterable[StepRecord]) -> list[str]:
    """The addresses of artifacts among the outputs of the steps that the run executed, apart from code, which no step makes."""
    outputs = [value for step in steps if step.reused_from is None for value in step.outputs.values()]
    return [address for address in _addresses(project, outputs) if not address.startswith("code://")]


Values = Mapping[str, Mapping[str, str]]


def texts(run: RunRecord) -> dict[str, dict[str, str]]:
    """Step -> the texts that the run gave it, by place: `image`, `command`, `args`, `script`, and `variables.NAME`.

    Outputs of other steps stand in them as far as they are known, secrets as `<secret NAME>`.
    """
    outputs = {step.name: step.outputs for step in run.steps}
    found: dict[str, dict[str, str]] = {}
    for step in run.plan.steps if run.plan else ():
        places = {
            "image": [step.image],
            "command": step.command,
            "args": step.args,
            "script": [step.script],
            **{f"variables.{item.name}": [item.value] for item in step.variables},
        }
        found[step.name] = {
            place: " ".join("".join(_shown(part, outputs) for part in value) for value in values)
            for place, values in places.items()
            if any(values)
        }
    for reused in run.plan.reused if run.plan else ():
        found[reused.name] = {"image": "".join(_shown(part, outputs) for part in reused.image)}
    return found


def _shown(part: plans.Part, outputs: Values) -> str:
    match part:
        case plans.TextPart():
            return part.text
        case plans.SecretPart():
            return f"<secret {part.ref}>"
    return outputs.get(part.step, {}).get(part.output, f"<output {part.step}.{part.output}>")


def consumed(run: RunRecord, step: str | None = None) -> list[str]:
    """The addresses of the artifacts that the run, or one step of it, was given: among the texts of its steps, and as sources of edges."""
    given = texts(run) if step is None else {step: texts(run).get(step, {})}
    found = [address for places in given.values() for address in _addresses(run.project, places.values())]
    if step is None:
        found += _addresses(run.project, run.inputs.values())
    found += [edge.source for edge in run.edges if step in (None, edge.step)]
    made = {item.address for item in run.products if step is None}
    return sorted({address for address in found if address not in made})


def _addresses(project: str, values: Iterable[str]) -> Iterator[str]:
    for value in values:
        address = artifact.named_in(project, value) or artifact.model_of(project, value)
        if address is not None:
            yield str(address)


def checkouts(run: RunRecord) -> dict[str, plans.Checkout]:
    """The codeset versions that the steps of the run were given, by address."""
    found = [checkout for step in (run.plan.steps if run.plan else ()) for checkout in step.checkouts]
    return {str(artifact.code(item.project, item.codeset, item.commit)): item for item in found}


def job_of(run: RunRecord, step: str) -> str:
    """The workflow's step that a step of the run belongs to: the combinations of a matrix are one."""
    planned: tuple[plans.StepPlan | plans.ReusedStep, ...] = (*run.plan.steps, *run.plan.reused) if run.plan else ()
    return next((item.combination.step for item in planned if item.name == step and item.combination), step)
