"""Dependencies of `runnables`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents
from fuseml.store import database
from fuseml.usecases import retention


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker and API tokens. The copies of deleted runnables in other stores go `contents_grace` seconds later."""

    store: database.Database
    publisher: cloudevents.Publisher
    tokens: auth.Tokens
    contents_grace: float = retention.CONTENTS_GRACE

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, publisher=platform.publisher, tokens=platform.tokens)
