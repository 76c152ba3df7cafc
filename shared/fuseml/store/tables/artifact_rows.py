"""Artifacts, their names, and their lineage."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns

_SEARCHED = ("kind", "project", "name", "format", "framework", "framework_order", "type", "run", "step", "created")


class Artifact(columns.Row, table=True):
    """The descriptor of an artifact. `details` is its metadata.

    `framework_order` is the sort key of the framework's version (domain.registry.versions). The indexes lead with the filters of a search and
    end with the address, the order of its pages; `artifact_search` has all the filters.
    """

    __tablename__ = "artifact"
    __table_args__ = (
        *(
            sqlalchemy.Index(f"artifact_by_{name}", *keys, "address")
            for name, keys in (
                ("kind", ["kind"]),
                ("project", ["project", "kind"]),
                ("name", ["name", "project", "kind"]),
                ("run", ["run"]),
                ("type", ["type"]),
                ("format", ["format"]),
            )
        ),
        sqlalchemy.Index("artifact_by_framework", "framework", "address", "framework_order"),
        sqlalchemy.Index("artifact_search", "address", *_SEARCHED),
        sqlalchemy.Index("artifact_by_age", "name", "project", "kind", "created", "address"),
        sqlalchemy.Index("artifact_by_location", "location"),
    )

    address: str = Field(primary_key=True)
    kind: str
    project: str
    name: str
    version: str
    run: str | None = None
    step: str | None = None
    type: str | None = None
    format: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    framework_order: bytes | None = None
    digest: str | None = None
    size: int | None = Field(default=None, sa_type=sqlalchemy.BigInteger)
    location: str | None = None
    external: bool = Field(default=False, sa_column_kwargs={"server_default": sqlalchemy.false()})
    details: dict[str, Any] = Field(default_factory=dict, sa_type=columns.Json)
    created: str


class ArtifactMetric(columns.Row, table=True):
    __tablename__ = "artifact_metric"
    __table_args__ = (sqlalchemy.Index("artifact_metric_search", "name", "address", "value"),)

    address: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: float


class ArtifactCopy(columns.Row, table=True):
    """A copy of an artifact's contents in another store, `extension/service`, where its address is `copy_address`."""

    __tablename__ = "artifact_copy"

    address: str = Field(primary_key=True)
    store: str = Field(primary_key=True)
    copy_address: str = Field(index=True)
    location: str
    created: str


class ArtifactMirror(columns.Row, table=True):
    """The stores, a selector, that the steps of a project read artifacts of a kind from, set by `by`."""

    __tablename__ = "artifact_mirror"

    project: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    store: dict[str, Any] = Field(sa_type=columns.Json)
    by: str
    updated: str


class ArtifactTag(columns.Row, table=True):
    """A tag of the name `kind://project/name`: it is on one version, the artifact at `address`."""

    __tablename__ = "artifact_tag"
    __table_args__ = (sqlalchemy.Index("artifact_tag_search", "tag", "address"), sqlalchemy.Index("artifact_tag_address", "address"))

    kind: str = Field(primary_key=True)
    project: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    tag: str = Field(primary_key=True)
    address: str
    immutable: bool
    by: str
    updated: str


class ArtifactLabel(columns.Row, table=True):
    __tablename__ = "artifact_label"
    __table_args__ = (sqlalchemy.Index("artifact_label_search", "label", "address"),)

    address: str = Field(primary_key=True)
    label: str = Field(primary_key=True)


class ArtifactChange(columns.Row, table=True):
    """A change of the names of an artifact, or its deletion. `previous` is the address that a tag was on before; `digest` that of a deleted one."""

    __tablename__ = "artifact_change"
    __table_args__ = columns.NEVER_REUSED

    sequence: int | None = Field(default=None, primary_key=True)
    address: str = Field(index=True)
    change: str
    name: str
    previous: str | None = Field(default=None, index=True)
    immutable: bool | None = None
    digest: str | None = None
    by: str
    made: str


class ArtifactEdge(columns.Row, table=True):
    """Lineage: `step` of `run` produced `target` from `source`."""

    __tablename__ = "artifact_edge"

    source: str = Field(primary_key=True)
    target: str = Field(primary_key=True, index=True)
    run: str = Field(primary_key=True, index=True)
    step: str | None = None
