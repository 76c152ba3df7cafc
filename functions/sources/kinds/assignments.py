"""Assignments of a source. The name of one is `WORKFLOW TARGET`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml.domain import events
from fuseml.domain.sources import files
from fuseml.store import workflows
from fuseml.usecases import assigning


def fingerprints(session: sqlmodel.Session, names: Collection[str]) -> Mapping[str, str]:
    """See `Kind`."""
    of_workflows = workflows.assignments_of(session, {name.partition(" ")[0] for name in names})
    found = {f"{row.workflow} {row.pattern}": digest(row.pattern) for row in of_workflows}
    return {name: found[name] for name in names if name in found}


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
