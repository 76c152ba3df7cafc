"""Dependencies of `resolver`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import auth
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database and API tokens. `zone` is the control plane's own."""

    store: database.Database
    tokens: auth.Tokens
    zone: str

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, tokens=platform.tokens, zone=platform.zone)
