"""Dependencies of `applications`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import servings
from fuseml.platform import Platform
from fuseml.runtime import auth, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, API tokens, the keyring that seals environments, and the servings."""

    store: database.Database
    tokens: auth.Tokens
    keyring: secrets.Keyring
    serving: servings.Servings

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, tokens=platform.tokens, keyring=platform.keyring, serving=platform.serving)
