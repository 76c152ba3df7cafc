"""The rules by which an artifact is recorded: once, by the first report about it, and not again after it was deleted.

Later reports fill in the facts that the record lacks. Each call belongs to the transaction of the report, with the events that it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import sqlmodel

from fuseml.domain import artifact, events
from fuseml.domain.artifacts import descriptor
from fuseml.domain.registry import versions
from fuseml.runtime import clock
from fuseml.store import artifact_names, artifacts

_log = logging.getLogger("fuseml.artifacts")


def is_gone(session: sqlmodel.Session, address: artifact.Address, digest: str | None, since: str = "") -> bool:
    """Whether the artifact was deleted, and a report of it records nothing: one of contents that were made before the deletion (made `since`
    this time), or of other contents than the deleted ones.
    """
    if artifacts.find(session, str(address)) is not None:
        return False
    deleted = artifact_names.deletion(session, str(address))
    if deleted is None:
        return False
    former = artifact_names.deleted_digest(session, str(address))
    gone = since <= deleted.made or (former is not None and digest is not None and digest != former)
    if gone:
        _log.info("%s was deleted by %s; its report records nothing", address, deleted.by)
    return gone


def record(
    session: sqlmodel.Session,
    address: artifact.Address,
    run: str | None,
    details: Mapping[str, Any],
    *,
    format: str | None,
    step: str | None = None,
    digest: str | None = None,
    size: int | None = None,
    framework: tuple[str, str] = ("", ""),
    is_collected: bool = False,
    collected_after: str | None = None,
) -> list[events.Payload]:
    """Record an artifact, or fill in what its record lacks. Returns the event to publish; none where nothing is new.

    `details` are its metadata; among them `uri` is its location, `digest` its digest, and `metrics` describe it. `framework` is a library and
    its version. `is_collected`: a step stored the contents, after the deletion `collected_after` if it names one.
    """
    library, version = framework
    row = artifacts.Artifact(
        address=str(address),
        kind=address.kind,
        project=address.project,
        name=address.name,
        version=address.version,
        run=run,
        step=step,
        format=format,
        digest=descriptor.digest_of(digest or details.get("digest")),
        size=size,
        framework=library or None,
        framework_version=version if library else None,
        framework_order=versions.sort_key(version) if library else None,
        location=details.get("uri"),
        details={key: value for key, value in details.items() if value},
        created=clock.now(),
    )
    metrics = descriptor.metrics_of(details.get("metrics"))
    # Reports have no order: a model is registered before the end of the step that knows its metrics.
    completed = artifacts.completed(session, row, metrics)
    new = artifacts.record(session, row, metrics, needs_contents=is_collected, proof=collected_after)
    return [recorded(row, completed)] if new or completed else []


def recorded(row: artifacts.Artifact, completed: Sequence[str] = ()) -> events.ArtifactRecorded:
    """The event that reports the artifact, or the facts that have `completed` it."""
    parts = {"address": row.address, "kind": row.kind, "project": row.project, "name": row.name, "version": row.version}
    return events.ArtifactRecorded(**parts, run=row.run, completed=",".join(completed))
