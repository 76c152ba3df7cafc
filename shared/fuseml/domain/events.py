"""The events that FuseML publishes: types, payloads, and ids that are equal for a repeated fact.

Types are `org.fuseml.<noun>.<past tense>.v1`. A published type never changes shape: a new shape is `v2`. Readers ignore
unknown fields and refuse wrong ones. `eventing/catalog.yaml` lists the same types for people; a test keeps both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from fuseml.domain import errors
from fuseml.domain.artifact_events import (
    ArtifactDeleted,
    ArtifactLabelled,
    ArtifactRecorded,
    ArtifactTagged,
    ArtifactUnlabelled,
    ArtifactUntagged,
)
from fuseml.domain.documents import document
from fuseml.domain.payload import Payload

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
        """(source, id) of the cause of this event: another event, or the delivery of a webhook. None when it is unknown."""
        source, id = (self.extensions.get(name) for name in _CAUSE)
        return (source, id) if source and id else None


# Extension attributes, because brokers drop other headers (infra/platform-facts.md 3.4).
_CAUSE = ("causesource", "causeid")


def caused_by(source: str, id: str) -> dict[str, str]:
    """The extension attributes that name the cause of an event."""
    return dict(zip(_CAUSE, (source, id), strict=True))


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


class CodesetReported(_AboutCodeset):
    """The host of the codeset's origin reports a change there; `delivery` is the id of its webhook's delivery. The codeset has yet to follow."""

    TYPE: ClassVar[str] = "org.fuseml.codeset.reported.v1"
    delivery: str
    change: str = ""

    @property
    def identity(self) -> str:
        return self.delivery


class CodesetRotated(_AboutCodeset):
    """A secret of a codeset was replaced, by the caller `by`; with `revoked`, its former values ended with it."""

    TYPE: ClassVar[str] = "org.fuseml.codeset.rotated.v1"
    kind: Literal["password", "webhook"]
    revoked: bool
    by: str


class CodesetPushed(_AboutCodeset):
    """A ref of a codeset points at a new commit. `paths` is null when the changed files are unknown.

    `registered` is the time at which the codeset was registered: a codeset that is deleted and created again is another one. `push` is the
    position of the push: the id of its delivery, or one of the sweep that found it. A ref that returns to a commit makes a new push.
    """

    TYPE: ClassVar[str] = "org.fuseml.codeset.pushed.v1"
    ref: str
    before: str | None = None
    commit: str
    paths: list[str] | None = None
    message: str = ""
    pusher: str = ""
    registered: str = ""
    push: str = ""

    @property
    def identity(self) -> str:
        # Events of former releases, and those sent by hand, have no position: they are known by their commit.
        position = f"/{self.before or 'new'}/{self.push}" if self.push else ""
        return f"{self.ref}@{self.commit}" + (f"/{self.registered}" if self.registered else "") + position

    @staticmethod
    def before_of(identity: str, ref: str, commit: str, registered: str) -> str | None:
        """The commit before, from the identity of a push to `commit`; None for a new ref, and where the identity does not say it."""
        _, found, position = identity.partition(f"{ref}@{commit}/{registered}/")
        before = position.partition("/")[0]
        return before if found and before != "new" else None


class WorkflowAssigned(_AboutWorkflow):
    """A workflow is bound to a codeset or to a pattern of artifacts. `assignment` is the id of the assignment."""

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
    """A run is requested. `request` is the id of the request: a repeated request makes one run.

    `submit`: the stored `run` is to be submitted to the engine. `start`: `workflow` runs on `codeset` at `commit` with `inputs`.
    `rerun`: `run` is repeated, with exactly its plan if `locked`, else resolved anew, with `inputs` in place of its own.
    `resume`: `run` continues where it failed, with another `commit` and other `images` (step -> image) if given.
    `until` names the last step, `only` the single step to execute. With `no_cache`, no step is reused from the cache.
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
    """The cancellation of a run is requested."""

    TYPE: ClassVar[str] = "org.fuseml.run.cancel_requested.v1"
    reason: str


class RunApprovalRequested(_AboutRun):
    """A step waits for an approval. `message` is the question; without a `deadline` (RFC 3339) it stays open."""

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
    """`by` has approved a waiting step."""

    TYPE: ClassVar[str] = "org.fuseml.run.approved.v1"
    step: str
    by: str
    comment: str = ""

    @property
    def identity(self) -> str:
        return f"step/{self.step}"


class RunRejected(_AboutRun):
    """A waiting step will not run: `by` has rejected it, or its approval has expired when `by` is null. `cause` is the reason for people."""

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


class ModelRegistered(_FromTracker):
    """A tracking server has a new model version."""

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
    """The scheduled minute `due` (`2026-11-21T03:00:00Z`) of a workflow is reached, for one of its assignments or for none.

    `codeset` is the name of one that the pattern of the assignment matches; it is left out for a pattern that names one.
    """

    TYPE: ClassVar[str] = "org.fuseml.schedule.reached.v1"
    due: str
    assignment: str | None = None
    codeset: str | None = None

    @property
    def identity(self) -> str:
        return "/".join(filter(None, (self.due, self.assignment, self.codeset)))


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


class _AboutSource(Payload):
    """`commit` is the one that the source was at."""

    name: str
    commit: str

    @property
    def subject(self) -> str:
        return self.name


class SourceSynced(_AboutSource):
    """The records, workflows, assignments and projects of a source equal the files of `commit`. The numbers are those of the changed items."""

    TYPE: ClassVar[str] = "org.fuseml.source.synced.v1"
    created: int
    updated: int
    deleted: int


class SourceRefused(_AboutSource):
    """The files of `commit` are wrong, or cannot be applied now: nothing was changed. `reason` is for people."""

    TYPE: ClassVar[str] = "org.fuseml.source.refused.v1"
    reason: str


PAYLOADS: dict[str, type[Payload]] = {
    payload.TYPE: payload
    for payload in (
        ArtifactDeleted,
        ArtifactLabelled,
        ArtifactRecorded,
        ArtifactTagged,
        ArtifactUnlabelled,
        ArtifactUntagged,
        CodesetPushed,
        CodesetRegistered,
        CodesetRemoved,
        CodesetReported,
        CodesetRotated,
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
        SourceRefused,
        SourceSynced,
        WorkflowAssigned,
        WorkflowUpdated,
    )
}


def event(payload: Payload, time: str, extensions: Mapping[str, str] | None = None) -> Event:
    """The event with this payload. Its id follows from type, subject and identity, so that a repeated fact is the same event."""
    short = payload.TYPE.removeprefix(PREFIX).removesuffix(".v1")
    identity = f"{short}:{payload.subject}:{payload.identity or time}"
    return Event(payload.TYPE, payload.source, identity, payload.subject, time, payload.model_dump(mode="json"), dict(extensions or {}))


def full_type(name: str) -> str:
    """The full type of a short name: `run.finished` is `org.fuseml.run.finished.v1`.

    A name that ends in `*` is a prefix. Full types, also those of other publishers, are returned as they are.
    """
    exact, prefix = f"{PREFIX}{name}.v1", f"{PREFIX}{name}"
    if exact in PAYLOADS:
        return exact
    return prefix if name.endswith("*") and any(type.startswith(prefix[:-1]) for type in PAYLOADS) else name


def read(event: Event) -> Payload:
    """The typed payload of an event of FuseML. Raises InvalidError for an unknown type, and for data of another shape."""
    model = PAYLOADS.get(event.type)
    if model is None:
        raise errors.InvalidError(f"{event.type} is not an event type of FuseML")
    return document.validate(model, event.data, kind=f"data of {event.type}")
