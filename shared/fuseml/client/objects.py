"""Results of the API as typed objects. Runs, plans and lineages show themselves in notebooks.

An object has the fields that programs need most, times as datetimes; `client.api` returns the whole documents.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fuseml.client import html, lineage_branches, plan_texts, shapes
from fuseml.domain import runs, times

_Object = TypeVar("_Object")


def read(kind: type[_Object], document: Mapping[str, Any]) -> _Object:
    """The object of a document. A field that the document lacks is None, and fields that only a newer server has are left out."""
    values = {field.name: document.get(field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kinds are dataclasses
    return kind(**{name: READERS[name](value) if name in READERS and value is not None else value for name, value in values.items()})


@dataclass(frozen=True)
class Step:
    """A step of a run. `duration` is in seconds; `reused_from` is the run whose outputs it has."""

    name: str
    image: str
    state: str
    started: datetime.datetime | None
    finished: datetime.datetime | None
    duration: float | None
    attempts: int
    cause: str | None
    needs: tuple[str, ...]
    outputs: Mapping[str, str]
    reused_from: str | None


@dataclass(frozen=True)
class Binding:
    """The service that a selector of a step was resolved to."""

    step: str
    name: str
    extension_id: str
    service_id: str
    product: str
    version: str
    url: str


@dataclass(frozen=True)
class Run:
    """A run at the time of the request. `duration` is in seconds; `cause` is the reason of a failure."""

    name: str
    workflow: str
    revision: int
    project: str
    codeset: str | None
    commit: str | None
    ref: str | None
    state: str
    cause: str | None
    created: datetime.datetime
    started: datetime.datetime | None
    finished: datetime.datetime | None
    duration: float | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    caused_by: str | None
    steps: tuple[Step, ...]
    bindings: tuple[Binding, ...]
    metrics: Mapping[str, float]

    @staticmethod
    def of(document: shapes.Run) -> Run:
        """The run of a document of the API."""
        return read(Run, {**document, "metrics": metrics(document)})

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state in runs.FINISHED

    @property
    def succeeded(self) -> bool:
        """Whether the run has finished with success."""
        return self.state == "succeeded"

    def _repr_html_(self) -> str:
        code = " ".join(
            part for part in (f"{self.project}/{self.codeset}" if self.codeset else self.project, (self.commit or "")[:12]) if part
        )
        numbers = {name: f"{value:.6g}" for name, value in self.metrics.items()}
        state = html.Markup(html.state(self.state))
        facts = {"State": state, "Cause": self.cause, "Workflow": f"{self.workflow}, revision {self.revision}", "Code": code}
        more = {"Duration": html.seconds(self.duration), "Inputs": self.inputs, "Outputs": self.outputs, "Metrics": numbers}
        steps = [(step.name, html.Markup(html.state(step.state)), html.seconds(step.duration), step.cause) for step in self.steps]
        return "".join(
            (
                html.facts(f"Run {self.name}", {**facts, **more}),
                html.table("Steps", ("Step", "State", "Duration", "Cause"), steps),
                _bindings(self.bindings),
            )
        )


def metrics(run: shapes.Run) -> dict[str, float]:
    """The numbers in the outputs `metrics` of the run's steps; the last step that has a number counts."""
    return {name: number for numbers in step_metrics(run).values() for name, number in numbers.items()}


def step_metrics(run: shapes.Run) -> dict[str, dict[str, float]]:
    """The numbers in the output `metrics` of each step that has some; of a matrix, those of the best combination."""
    from fuseml.steps import ranking

    found: dict[str, dict[str, float]] = {}
    for step in run.get("steps", []):
        combination = step.get("combination")
        if not combination or combination["best"]:
            numbers = ranking.metrics((step.get("outputs") or {}).get("metrics", ""))
            if numbers:
                found[combination["step"] if combination else step["name"]] = numbers
    return found


@dataclass(frozen=True)
class PlannedStep:
    """A step of a plan. Secrets appear by name, outputs of earlier steps as expressions."""

    name: str
    image: str
    needs: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """The plan of a run that was not started."""

    workflow: str
    revision: int
    project: str
    inputs: Mapping[str, str]
    steps: tuple[PlannedStep, ...]
    bindings: tuple[Binding, ...]

    @staticmethod
    def of(document: Mapping[str, Any]) -> Plan:
        """The plan of a document of the API."""
        steps = [
            PlannedStep(
                step["name"],
                plan_texts.value(step["image"]),
                tuple(step.get("needs") or ()),
                {item["name"]: plan_texts.value(item["value"]) for item in step.get("variables") or ()},
            )
            for step in document["steps"]
        ]
        bindings = [read(Binding, {"step": item["step"], **item["binding"]}) for item in document.get("bindings") or ()]
        values = {name: document.get(name) for name in ("workflow", "revision", "project")}
        return Plan(**values, inputs=document.get("inputs") or {}, steps=tuple(steps), bindings=tuple(bindings))  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        steps = [(step.name, step.image, step.needs) for step in self.steps]
        environment = [(step.name, name, value) for step in self.steps for name, value in step.environment.items()]
        return "".join(
            (
                html.facts(f"Plan of {self.workflow}", {"Revision": self.revision, "Project": self.project, "Inputs": self.inputs}),
                html.table("Steps", ("Step", "Image", "Needs"), steps),
                html.table("Environment", ("Step", "Variable", "Value"), environment),
                _bindings(self.bindings),
            )
        )


def _bindings(bindings: Sequence[Binding]) -> str:
    rows = [(item.step, item.name, f"{item.extension_id}/{item.service_id}", item.version, item.url) for item in bindings]
    return html.table("Bindings", ("Step", "Selector", "Bound to", "Version", "URL"), rows)


@dataclass(frozen=True)
class Artifact:
    """An immutable result with an address such as `model://project/name/version`; `step` of `run` made it. `size` is in bytes."""

    address: str
    kind: str
    project: str
    name: str
    version: str
    type: str | None
    format: str | None
    digest: str | None
    size: int | None
    run: str | None
    step: str | None
    metrics: Mapping[str, float]
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    created: datetime.datetime


@dataclass(frozen=True)
class Edge:
    """`step` of `run` made `target` from `source`; the run is empty where it is unknown."""

    source: str
    target: str
    run: str
    step: str | None


@dataclass(frozen=True)
class Lineage:
    """The sources and products of an artifact; `truncated` if there are more within the depth."""

    address: str
    edges: tuple[Edge, ...]
    truncated: bool
    document: shapes.Lineage = dataclasses.field(repr=False)

    @staticmethod
    def of(document: shapes.Lineage) -> Lineage:
        """The lineage of a document of the API."""
        return read(Lineage, {**document, "document": document})

    def _repr_html_(self) -> str:
        found = lineage_branches.branches(self.document)
        trees = "".join(f"<h5>{html.text(title)}</h5>{_tree(branches)}" for title, branches in found.items())
        more = "<p>There is more within this depth.</p>" if self.truncated else ""
        return f"<h4>Lineage of {html.text(self.address)}</h4>{trees or '<p>No lineage is recorded.</p>'}{more}"


def _tree(branches: Sequence[lineage_branches.Branch]) -> str:
    return html.branches(
        f"<code>{html.text(branch.address)}</code> {html.text(', '.join(branch.notes))}{_tree(branch.branches)}" for branch in branches
    )


@dataclass(frozen=True)
class Event:
    """An event of the ledger. `outcome` is pending, done, dead, dropped, refused or another word of the ledger."""

    number: int
    type: str
    source: str
    id: str
    subject: str | None
    time: datetime.datetime
    received: datetime.datetime
    outcome: str


@dataclass(frozen=True)
class Push:
    """The codeset version that `main` points to after a push; `changed` is False when it pointed to it before."""

    project: str
    codeset: str
    commit: str
    changed: bool


READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("created", "started", "finished", "time", "received"), times.parse),
    **dict.fromkeys(("needs", "labels"), tuple),
    "tags": lambda items: tuple(item["tag"] for item in items),
    "steps": lambda items: tuple(read(Step, item) for item in items),
    "bindings": lambda items: tuple(read(Binding, item) for item in items),
    "edges": lambda items: tuple(read(Edge, item) for item in items),
}
"""The readers of fields that are no plain values; a name means the same in all documents."""
