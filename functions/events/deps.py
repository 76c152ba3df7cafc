"""Dependencies of `events`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the ledger needs from the outside. `queued`: the deliveries in the store are the broker's queue, as in the embedded server."""

    store: database.Database
    publisher: cloudevents.Publisher
    tokens: auth.Tokens
    queued: bool = False
