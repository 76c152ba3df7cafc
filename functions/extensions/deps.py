"""Dependencies of `extensions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml.runtime import auth, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the registry needs from the outside. `zone` is the control plane's own, where runs are; webhooks come in at `public_url`.

    `renew` puts a fresh key into the keyring, where the server keeps its keys itself; else they are configured, a new one first.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    tokens: auth.Tokens
    zone: str = ""
    public_url: str = ""
    renew: Callable[[], None] | None = None
