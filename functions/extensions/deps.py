"""Dependencies of `extensions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml.contents import mlflow, trackers
from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keyring and API tokens. `zone` is the control plane's own; webhooks arrive at `public_url`.

    `renew` puts a fresh key into the keyring, where the server keeps its keys itself; None where keys are configured.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    tokens: auth.Tokens
    zone: str = ""
    public_url: str = ""
    tracking: trackers.Connect = mlflow.Tracking
    renew: Callable[[], None] | None = None

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            keyring=platform.keyring,
            tokens=platform.tokens,
            zone=platform.zone,
            public_url=platform.public_url,
            tracking=platform.connect_tracking,
            renew=platform.renew_keys,
        )
