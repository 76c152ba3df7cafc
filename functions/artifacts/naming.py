"""Tags and labels of artifacts, and the history of both. Each change is an event with its author."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlmodel

from functions.artifacts import service
from functions.artifacts.deps import Deps
from fuseml.domain import artifact, events
from fuseml.domain.artifacts import names
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifact_names, artifacts, lineage

_MOST_CHANGES = 500
_MOST_PRODUCTS = 500


@dataclass(frozen=True, slots=True)
class History:
    """The changes of an artifact's names, newest first, and what was made from it. `deleted`: its descriptor is gone."""

    address: str
    deleted: bool
    changes: Sequence[artifact_names.ArtifactChange]
    products: Sequence[lineage.ArtifactEdge]


def tags(deps: Deps, address: artifact.Address) -> Sequence[artifact_names.Tag]:
    """The tags of an artifact, by name. Raises NotFoundError."""
    with deps.store.read() as session:
        artifacts.get(session, str(address))
        return artifact_names.tags(session, [str(address)]).get(str(address), [])


def tag(deps: Deps, address: artifact.Address, tag: str, immutable: bool | None, by: str) -> service.View:
    """Put a tag on an artifact, from which other version it may move. Raises NotFoundError, ConflictError for an immutable tag elsewhere."""
    names.check_tag(tag)

    def change(session: sqlmodel.Session, row: artifacts.Artifact) -> events.Payload | None:
        place = names.place(tag, artifact_names.placed(session, row, tag), row.address, immutable)
        noted = artifact_names.put_tag(session, row, tag, place, by, clock.now())
        if noted is None:
            return None
        return events.ArtifactTagged(
            address=row.address, by=by, change=noted.sequence or 0, tag=tag, previous=noted.previous, immutable=place.immutable
        )

    return _changed(deps, address, change)


def untag(deps: Deps, address: artifact.Address, tag: str, by: str) -> service.View:
    """Remove a tag from an artifact. Raises NotFoundError, ConflictError for an immutable one."""

    def change(session: sqlmodel.Session, row: artifacts.Artifact) -> events.Payload:
        present = artifact_names.placed(session, row, tag)
        if present is not None and present.address == row.address:
            names.check_removal(tag, present)
        noted = artifact_names.remove_tag(session, row, tag, by, clock.now())
        return events.ArtifactUntagged(address=row.address, by=by, change=noted.sequence or 0, tag=tag)

    return _changed(deps, address, change)


def label(deps: Deps, address: artifact.Address, label: str, by: str) -> service.View:
    """Put a label on an artifact. Raises NotFoundError."""
    names.check_label(label)

    def change(session: sqlmodel.Session, row: artifacts.Artifact) -> events.Payload | None:
        noted = artifact_names.add_label(session, row, label, by, clock.now())
        return events.ArtifactLabelled(address=row.address, by=by, change=noted.sequence or 0, label=label) if noted else None

    return _changed(deps, address, change)


def unlabel(deps: Deps, address: artifact.Address, label: str, by: str) -> service.View:
    """Remove a label from an artifact. Raises NotFoundError."""

    def change(session: sqlmodel.Session, row: artifacts.Artifact) -> events.Payload:
        noted = artifact_names.remove_label(session, row, label, by, clock.now())
        return events.ArtifactUnlabelled(address=row.address, by=by, change=noted.sequence or 0, label=label)

    return _changed(deps, address, change)


def history(deps: Deps, address: artifact.Address) -> History:
    """The history of an artifact, also of a deleted one. Raises NotFoundError."""
    text = str(address)
    with deps.store.read() as session:
        changes = artifact_names.changes(session, text, _MOST_CHANGES)
        row = artifacts.find(session, text) if changes else artifacts.get(session, text)
        products = lineage.neighbourhood(session, text, "down", 1, _MOST_PRODUCTS).edges
        return History(text, row is None, changes, products)


def _changed(
    deps: Deps, address: artifact.Address, change: Callable[[sqlmodel.Session, artifacts.Artifact], events.Payload | None]
) -> service.View:
    """Make one change of an artifact's names in one transaction with its event; None changes nothing."""
    with deps.store.write() as session:
        row = artifacts.get(session, str(address))
        payload = change(session, row)
        enqueued = cloudevents.enqueue(session, *([payload] if payload else []))
        view = service.views(session, [row])[0]
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return view
