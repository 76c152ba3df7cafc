"""Dependencies of `run_tracker`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database and the broker."""

    store: database.Database
    publisher: cloudevents.Publisher

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, publisher=platform.publisher)
