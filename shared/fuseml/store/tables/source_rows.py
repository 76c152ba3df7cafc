"""Sources, and the items that belong to them."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Source(columns.Row, table=True):
    """A repository whose folders in `path` are reconciled: the codeset `project`/`codeset` that was registered at `registered`, or that
    in the registry's record of this name.

    `state` is `synced`, `refused`, `unreadable` or, before the first commit, `waiting`; `message` and `refusals` say why. `commit` is the one that
    was applied last, `seen` the one that was looked at last. `changes` are those of the last sync that made any. `generation` counts the looks:
    of two at once, one counts. `checked` is the time of the last look, `synced` that of the last applied one.
    """

    __tablename__ = "source"

    name: str = Field(primary_key=True)
    project: str = Field(default="", index=True)
    codeset: str = ""
    registered: str = ""
    branch: str = ""
    path: str = ""
    generation: int = 0
    state: str = "waiting"
    message: str = ""
    refusals: list[dict[str, Any]] = Field(default_factory=list, sa_type=columns.Json)
    changes: list[dict[str, Any]] = Field(default_factory=list, sa_type=columns.Json)
    commit: str = ""
    seen: str = ""
    checked: str = ""
    synced: str = ""
    by: str = ""
    created: str


class SourceItem(columns.Row, table=True):
    """An item of a source; the key is that of the item, so that it belongs to one source at most.

    `fingerprint` is that of the item as the source has left it: another one now means a change by hand.
    """

    __tablename__ = "source_item"

    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    source: str = Field(foreign_key="source.name", index=True)
    adopted: bool = False
    fingerprint: str
    file: str
