"""Dependencies of `pipelines`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keyring that seals the accounts of catalogues, and API tokens. `zone` is the control plane's own."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    tokens: auth.Tokens
    zone: str = ""

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, publisher=platform.publisher, keyring=platform.keyring, tokens=platform.tokens, zone=platform.zone)
