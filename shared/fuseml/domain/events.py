"""The events that FuseML publishes: types, payloads, and the ids that make a repeated fact the same event.

Types are `org.fuseml.<noun>.<past tense>.v1`. A published type never changes shape: a new shape is `v2`. Readers ignore
unknown fields and refuse wrong ones. `eventing/catalog.yaml` lists the same types for people; a test keeps both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document

PREFIX = "org.fuseml."
TEKTON_PREFIX = "dev.tekton.event."
TICK = "dev.knative.sources.ping"


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent with JSON data. (`source`, `id`) identifies it; `time` is RFC 3339."""

    type: str
    source: str
    id: str
    subject: str | None
    time: str
    data: dict[str, Any]
    extensions: Mapping[str, str] = field(default_factory=dict)

    @property
    def cause(self) -> tuple[str, str] | None:
        """(source, id) of what led to this event: another event, or a webhook's delivery. None where nobody said."""
        source, id = (self.extensions.get(name) for name in _CAUSE)
        return (source, id) if source and id else None


# Extension attributes, because brokers drop other headers (infra/platform-facts.md 3.4).
_CAUSE = ("causesource", "causeid")


def caused_by(source: str, id: str) -> dict[str, str]:
    """The extension attributes of an event that says what led to it."""
    return dict(zip(_CAUSE, (source, id), strict=True))


class Payload(pydantic.BaseModel):
    """The parent of every payload; `TYPE` is the event's type. Unknown fields are ignored: an older reader meets a newer writer."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", defer_build=True)

    TYPE: ClassVar[str]

    @property
    def subject(self) -> str:
        """What the event is about, for filters and ledgers."""
        raise errors.PermanentError(f"{type(self).__name__} names no subject")

    @property
    def source(self) -> str:
        """The thing that changed, as a URI reference."""
        return f"/{self.TYPE.split('.')[2]}s/{self.subject}"

    @property
    def identity(self) -> str | None:
        """What makes two events of this type and subject the same fact; None where each event is a fact of its own."""
        return None


class _AboutCodeset(Payload):
    project: str
    codeset: str

    @property
    def subject(self) -> str:
        return f"{self.project}/{self.codeset}"


class _AboutWorkflow(Payload):
    workflow: str

    @property
    def subject(self) -> str:
        return self.workflow


class _AboutRun(Payload):
    run: str

    @property
    def subject(self) -> str:
        return self.run


class _FromTracker(Payload):
    """`extension` is the id of the tracking server's record."""

    extension: str
    name: str

    @property
    def source(self) -> str:
        return f"/extensions/{self.extension}"


class CodesetRegistered(_AboutCodeset):
    TYPE: ClassVar[str] = "org.fuseml.codeset.registered.v1"
    url: str


class CodesetRemoved(_AboutCodeset):
    TYPE: ClassVar[str] = "org.fuseml.codeset.removed.v1"


class CodesetPushed(_AboutCodeset):
    """A ref of a codeset points at a new commit. `paths` is null where the changed files could not be told.

    `registered` is when the codeset was registered: one that was deleted and made again begins anew.
    """

    TYPE: ClassVar[str] = "org.fuseml.codeset.pushed.v1"
    ref: str
    before: str | None = None
    commit: str
    paths: list[str] | None = None
    message: str = ""
    pusher: str = ""
    registered: str = ""

    @property
    def identity(self) -> str:
        # Without `before`: the sweep that repairs a lost webhook does not know it, and must make the same event.
        return f"{self.ref}@{self.commit}" + (f"/{self.registered}" if self.registered else "")


class WorkflowAssigned(_AboutWorkflow):
    """A workflow is bound to a codeset or to a pattern of artifacts. `assignment` tells repeated assignments apart."""

    TYPE: ClassVar[str] = "org.fuseml.workflow.assigned.v1"
    pattern: str
    assignment: str

    @property
    def identity(self) -> str:
        return self.assignment


class WorkflowUpdated(_AboutWorkflow):
    TYPE: ClassVar[str] = "org.fuseml.workflow.updated.v1"
    revision: int

    @property
    def identity(self) -> str:
        return str(self.revision)


class RunRequested(Payload):
    """Somebody asks for a run. `request` identifies the wish: told twice, it makes one run.

    `submit`: the stored `run` has to be handed to the engine. `start`: `workflow` runs on `codeset` at `commit` with `inputs`.
    `rerun`: `run` is repeated, its plan exactly if `locked`, else resolved anew. `resume`: `run` goes on where it failed, with another
    `commit`, or with other `images` (step -> image), if they are given. `until` and `only` name a step: the last one, or the one alone.
    With `no_cache`, no step is reused from the cache.
    """

    TYPE: ClassVar[str] = "org.fuseml.run.requested.v1"
    request: str
    action: Literal["submit", "start", "rerun", "resume"] = "submit"
    run: str | None = None
    workflow: str | None = None
    project: str | None = None
    codeset: str | None = None
    commit: str | None = None
    inputs: dict[str, str] = {}
    images: dict[str, str] = {}
    locked: bool = False
    until: str | None = None
    only: str | None = None
    no_cache: bool = False

    @property
    def subject(self) -> str:
        return self.run or self.workflow or self.request

    @property
    def identity(self) -> str:
        return self.request


class RunCancelRequested(_AboutRun):
    """Somebody wants a run to stop."""

    TYPE: ClassVar[str] = "org.fuseml.run.cancel_requested.v1"
    reason: str


class RunApprovalRequested(_AboutRun):
    """A step waits for a person, who reads `message` and approves or rejects before `deadline` (RFC 3339), if there is one."""

    TYPE: ClassVar[str] = "org.fuseml.run.approval_requested.v1"
    workflow: str
    project: str
    step: str
    message: str
    deadline: str | None = None

    @property
    def identity(self) -> str:
        return f"step/{self.step}"


class RunApproved(_AboutRun):
    """`by` has approved a step that waited."""

    TYPE: ClassVar[str] = "org.fuseml.run.approved.v1"
    step: str
    by: str
    comment: str = ""

    @property
    def identity(self) -> str:
        return f"step/{self.step}"


class RunRejected(_AboutRun):
    """A step that waited must not run: `by` has rejected it or, when `by` is null, nobody has approved it in time. `cause` says it in words."""

    TYPE: ClassVar[str] = "org.fuseml.run.rejected.v1"
    step: str
    by: str | None = None
    comment: str = ""
    cause: str

    @property
    def identity(self) -> str:
        return f"step/{self.step}"


class RunCreated(_AboutRun):
    TYPE: ClassVar[str] = "org.fuseml.run.created.v1"
    workflow: str
    revision: int
    project: str
    codeset: str | None = None
    commit: str | None = None

    @property
    def identity(self) -> str:
        return "created"


class RunStarted(_AboutRun):
    TYPE: ClassVar[str] = "org.fuseml.run.started.v1"
    workflow: str
    project: str

    @property
    def identity(self) -> str:
        return "started"


class RunStepFinished(_AboutRun):
    TYPE: ClassVar[str] = "org.fuseml.run.step_finished.v1"
    workflow: str
    project: str
    step: str
    state: str
    cause: str | None = None
    outputs: dict[str, str] = {}

    @property
    def identity(self) -> str:
        return f"step/{self.step}"


class RunFinished(_AboutRun):
    TYPE: ClassVar[str] = "org.fuseml.run.finished.v1"
    workflow: str
    project: str
    codeset: str | None = None
    commit: str | None = None
    state: Literal["succeeded", "failed", "cancelled"]
    cause: str | None = None
    outputs: dict[str, str] = {}

    @property
    def identity(self) -> str:
        return "finished"


class ArtifactRecorded(Payload):
    TYPE: ClassVar[str] = "org.fuseml.artifact.recorded.v1"
    address: str
    kind: str
    project: str
    name: str
    version: str
    run: str | None = None

    @property
    def subject(self) -> str:
        return self.address

    @property
    def source(self) -> str:
        return "/artifacts"

    @property
    def identity(self) -> str:
        return "recorded"


class ModelRegistered(_FromTracker):
    """A tracking server (`extension` is its record's id) has a new model version."""

    TYPE: ClassVar[str] = "org.fuseml.model.registered.v1"
    version: str
    model_source: str | None = None
    run_id: str | None = None
    tags: dict[str, str] = {}

    @property
    def subject(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def identity(self) -> str:
        return "registered"


class ModelTagged(_FromTracker):
    TYPE: ClassVar[str] = "org.fuseml.model.tagged.v1"
    version: str
    key: str
    value: str | None = None
    delivery: str

    @property
    def subject(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def identity(self) -> str:
        return self.delivery


class ModelAliased(_FromTracker):
    """An alias of a model points at `version`, or at nothing when `version` is null."""

    TYPE: ClassVar[str] = "org.fuseml.model.aliased.v1"
    alias: str
    version: str | None = None
    delivery: str

    @property
    def subject(self) -> str:
        return f"{self.name}@{self.alias}"

    @property
    def identity(self) -> str:
        return self.delivery


class ScheduleReached(_AboutWorkflow):
    """A scheduled minute of a workflow has come, `due` (`2026-11-21T03:00:00Z`), for one of its `assignment`s or for none."""

    TYPE: ClassVar[str] = "org.fuseml.schedule.reached.v1"
    due: str
    assignment: str | None = None

    @property
    def identity(self) -> str:
        return f"{self.due}/{self.assignment}" if self.assignment else self.due


class _ExtensionChanged(Payload):
    extension: str
    revision: int

    @property
    def subject(self) -> str:
        return self.extension


class ExtensionRegistered(_ExtensionChanged):
    TYPE: ClassVar[str] = "org.fuseml.extension.registered.v1"


class ExtensionUpdated(_ExtensionChanged):
    TYPE: ClassVar[str] = "org.fuseml.extension.updated.v1"


class ExtensionRemoved(_ExtensionChanged):
    TYPE: ClassVar[str] = "org.fuseml.extension.removed.v1"


PAYLOADS: dict[str, type[Payload]] = {
    payload.TYPE: payload
    for payload in (
        ArtifactRecorded,
        CodesetPushed,
        CodesetRegistered,
        CodesetRemoved,
        ExtensionRegistered,
        ExtensionRemoved,
        ExtensionUpdated,
        ModelAliased,
        ModelRegistered,
        ModelTagged,
        RunApprovalRequested,
        RunApproved,
        RunCancelRequested,
        RunCreated,
        RunFinished,
        RunRejected,
        RunRequested,
        RunStarted,
        RunStepFinished,
        ScheduleReached,
        WorkflowAssigned,
        WorkflowUpdated,
    )
}


def event(payload: Payload, time: str, extensions: Mapping[str, str] | None = None) -> Event:
    """The event that announces `payload`. Its id follows from type, subject and identity, so that the same fact, told twice, is one event."""
    short = payload.TYPE.removeprefix(PREFIX).removesuffix(".v1")
    identity = f"{short}:{payload.subject}:{payload.identity or time}"
    return Event(payload.TYPE, payload.source, identity, payload.subject, time, payload.model_dump(mode="json"), dict(extensions or {}))


def full_type(name: str) -> str:
    """The type that `name` stands for: `run.finished`, as people say it, is `org.fuseml.run.finished.v1`.

    A name may end in `*` and then stands for all types that begin so. What is written out, of ours or of others, stays as it is.
    """
    exact, begun = f"{PREFIX}{name}.v1", f"{PREFIX}{name}"
    if exact in PAYLOADS:
        return exact
    return begun if name.endswith("*") and any(type.startswith(begun[:-1]) for type in PAYLOADS) else name


def read(event: Event) -> Payload:
    """The typed payload of one of our own events. Raises InvalidError when the type is unknown or the data does not fit it."""
    model = PAYLOADS.get(event.type)
    if model is None:
        raise errors.InvalidError(f"{event.type} is not an event type of FuseML")
    return document.validate(model, event.data, kind=f"data of {event.type}")
