"""The payloads of events about artifacts (domain.events)."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from fuseml.domain.payload import Payload


class ArtifactRecorded(Payload):
    """An artifact was recorded or, with `completed`, got these facts later: `framework,metrics.rmse`."""

    TYPE: ClassVar[str] = "org.fuseml.artifact.recorded.v1"
    address: str
    kind: str
    project: str
    name: str
    version: str
    run: str | None = None
    completed: str = ""

    @property
    def subject(self) -> str:
        return self.address

    @property
    def source(self) -> str:
        return "/artifacts"

    @property
    def identity(self) -> str:
        # A fact is completed once.
        return f"completed-{hashlib.sha256(self.completed.encode()).hexdigest()[:16]}" if self.completed else "recorded"


class _ArtifactChanged(Payload):
    """A change of an artifact by the caller `by`. `change` is its number in the artifacts' history."""

    address: str
    by: str
    change: int

    @property
    def subject(self) -> str:
        return self.address

    @property
    def source(self) -> str:
        return "/artifacts"

    @property
    def identity(self) -> str:
        return str(self.change)


class ArtifactTagged(_ArtifactChanged):
    """A tag was set on an artifact. `previous` is the address that it was on before, null for a new tag."""

    TYPE: ClassVar[str] = "org.fuseml.artifact.tagged.v1"
    tag: str
    previous: str | None = None
    immutable: bool = False


class ArtifactUntagged(_ArtifactChanged):
    TYPE: ClassVar[str] = "org.fuseml.artifact.untagged.v1"
    tag: str


class ArtifactLabelled(_ArtifactChanged):
    TYPE: ClassVar[str] = "org.fuseml.artifact.labelled.v1"
    label: str


class ArtifactUnlabelled(_ArtifactChanged):
    TYPE: ClassVar[str] = "org.fuseml.artifact.unlabelled.v1"
    label: str


class ArtifactDeleted(_ArtifactChanged):
    """The descriptor of an artifact was deleted. Its contents stay in their store, unless the `reason` is `retention`."""

    TYPE: ClassVar[str] = "org.fuseml.artifact.deleted.v1"
    digest: str | None = None
    reason: str = ""
