"""Dependencies of `events`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, signing
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events and API tokens. `queued` is true where the deliveries in the store are the broker's
    queue, as in the embedded server.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    tokens: auth.Tokens
    queued: bool = False

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            signer=platform.signer,
            tokens=platform.tokens,
            queued=platform.queued,
        )
