"""Dependencies of `gitea_ingress`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.runtime import cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What taking webhooks needs from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
