"""Projects of a source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml.domain import events
from fuseml.domain.sources import files
from fuseml.runtime import clock
from fuseml.store import codesets


def fingerprints(session: sqlmodel.Session, names: Collection[str]) -> Mapping[str, str]:
    """See `Kind`."""
    return {row.name: digest(row.description) for row in codesets.named_projects(session, names)}


def put(_deps: Deps, session: sqlmodel.Session, item: files.Project) -> Put:
    """See `Kind`."""
    row = codesets.find_project(session, item.name)
    if row is None:
        codesets.create_project(session, item.name, item.description, clock.now())
        return Put("created")
    if row.description == item.description:
        return Put("unchanged")
    codesets.describe_project(session, row, item.description)
    return Put("updated", ["description"])


def remove(_deps: Deps, session: sqlmodel.Session, name: str) -> Sequence[events.Payload]:
    """See `Kind`: while codesets are in it."""
    codesets.delete_project(session, name)
    return []
