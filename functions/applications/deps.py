"""Dependencies of `applications`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import servings
from fuseml.runtime import auth, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What applications need from the outside."""

    store: database.Database
    tokens: auth.Tokens
    keyring: secrets.Keyring
    serving: servings.Servings
