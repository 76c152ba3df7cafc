"""From settings to the real things that `main.py` puts into a function's `Deps`. Making them connects to nothing.

What only some functions have is imported for those: payloads of events, cryptography.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuseml.runtime import auth
from fuseml.runtime.settings import Settings
from fuseml.store import database

if TYPE_CHECKING:
    from fuseml.runtime import cloudevents, secrets


def store(settings: Settings) -> database.Database:
    """The database at `FUSEML_DATABASE_URL`."""
    return database.Database(settings.require("database_url").database_url)


def publisher(settings: Settings) -> cloudevents.Publisher:
    """Knative's broker at `K_SINK`."""
    from fuseml.runtime import broker

    return broker.HttpPublisher(settings.require("broker_url").broker_url)


def tokens(settings: Settings) -> auth.Tokens:
    """The accepted API tokens."""
    return auth.Tokens.parse(settings.require("token_hashes").token_hashes)


def keyring(settings: Settings) -> secrets.Keyring:
    """The keys that seal secrets at rest."""
    from fuseml.runtime import secrets

    return secrets.Keyring(settings.require("secret_keys").keys())
