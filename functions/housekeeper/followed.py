"""The artifact stores of the registry that others write to, and their bindings for projects.

A store is followed from its registration on: versions that it had before are recorded and start nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlmodel

from fuseml import artifactstores
from fuseml.contents import trackers
from fuseml.domain import errors
from fuseml.domain.registry import extension, resolution, selector
from fuseml.store import extensions

POSITIONS = "changes:"
"""The beginning of the names of the watermarks that hold the positions in stores."""

_LONG_AGO = "1970-01-01T00:00:00.000000Z"
_ELSEWHERE = frozenset({trackers.RESOURCE})
"""Resources whose versions come by webhooks of their own, with a sweep of their own."""


@dataclass(frozen=True)
class Store:
    """A service of the registry that is an artifact store."""

    record: extension.Extension
    service: extension.Service

    @property
    def name(self) -> str:
        """The name of the store in the records of its artifacts."""
        return f"{self.record.id}/{self.service.id}"

    @property
    def registered(self) -> str:
        """The time of its registration."""
        return self.service.status.registered or self.record.status.registered or _LONG_AGO

    @property
    def is_pushed(self) -> bool:
        """Whether its versions come with pushes."""
        return self.service.resource in artifactstores.PUSHED

    def position(self, part: str) -> str:
        """The name of the watermark for a part of the store. One that is registered again, or at another address, is another store."""
        addresses = " ".join(sorted(endpoint.url for endpoint in self.service.endpoints))
        return f"{POSITIONS}{self.name}@{self.registered}:{hashlib.sha256(addresses.encode()).hexdigest()[:12]}:{part}"

    def binding(self, project: str, zone: str) -> selector.Binding | None:
        """The binding that the project's selectors get; None where it finds no such store."""
        wanted = selector.Selector(name="store", extension_id=self.record.id, service_id=self.service.id)
        return resolution.choose(wanted, [self.record], selector.Context(project=project, zone=zone), home=zone).binding


def stores(session: sqlmodel.Session) -> list[Store]:
    """All artifact stores of the registry, without tracking servers."""
    wanted = selector.Selector(name="stores", service_category=artifactstores.CATEGORY)
    found = [
        Store(record, service)
        for record in extensions.candidates(session, [wanted])
        for service in record.services
        if service.category == artifactstores.CATEGORY and service.resource not in _ELSEWHERE
    ]
    return sorted(found, key=lambda store: store.name)


def is_registered(session: sqlmodel.Session, store: Store) -> bool:
    """Whether the store is still registered as the same one."""
    try:
        record = extensions.get(session, store.record.id)
    except errors.NotFoundError:
        return False
    return any(
        (found.name, found.registered) == (store.name, store.registered) for found in (Store(record, part) for part in record.services)
    )
