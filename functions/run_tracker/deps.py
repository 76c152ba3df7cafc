"""Dependencies of `run_tracker`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import engines
from fuseml.platform import Platform
from fuseml.runtime import cloudevents, signing
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, and the engine whose events arrive."""

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    engine: engines.Engine

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, publisher=platform.publisher, signer=platform.signer, engine=platform.engine)
