"""From settings to the real things that `main.py` puts into a function's `Deps`. Making them connects to nothing."""

from __future__ import annotations

from fuseml.runtime import auth, broker, cloudevents, secrets
from fuseml.runtime.settings import Settings
from fuseml.store import database


def store(settings: Settings) -> database.Database:
    """The database at `FUSEML_DATABASE_URL`."""
    return database.Database(settings.require("database_url").database_url)


def publisher(settings: Settings) -> cloudevents.Publisher:
    """Knative's broker at `K_SINK`."""
    return broker.HttpPublisher(settings.require("broker_url").broker_url)


def tokens(settings: Settings) -> auth.Tokens:
    """The accepted API tokens."""
    return auth.Tokens.parse(settings.require("token_hashes").token_hashes)


def keyring(settings: Settings) -> secrets.Keyring:
    """The keys that seal secrets at rest."""
    return secrets.Keyring(settings.require("secret_keys").keys())
