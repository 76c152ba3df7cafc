"""Assignments of a source. The name of one is `WORKFLOW TARGET`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml.domain import events
from fuseml.domain.sources import files
from fuseml.store import workflows
from fuseml.usecases import assigning


def fingerprint(session: sqlmodel.Session, name: str) -> str | None:
    """See `Kind`."""
    workflow, _, target = name.partition(" ")
    return digest(target) if workflows.assignments(session, workflow=workflow, pattern=target) else None


def put(_deps: Deps, session: sqlmodel.Session, item: files.Assignment) -> Put:
    """See `Kind`."""
    payloads = assigning.assign(session, item.workflow, item.target)
    return Put("created" if payloads else "unchanged", payloads=payloads)


def remove(_deps: Deps, session: sqlmodel.Session, name: str) -> Sequence[events.Payload]:
    """See `Kind`. The runs that it has started continue."""
    workflow, _, target = name.partition(" ")
    workflows.unassign(session, workflow, target)
    session.flush()
    return []
