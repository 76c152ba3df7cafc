"""Dependencies of `gitea_ingress`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, and the keyring that unseals webhook secrets; `now` is the time in Unix seconds."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(store=platform.store, publisher=platform.publisher, keyring=platform.keyring)
