"""Dependencies of `sources`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import githosts
from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, secrets, signing
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, the git host, the keyring and API tokens. `zone` is the control plane's own.

    A tick looks at a source again after `interval` seconds. `conditions` are the known faults.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    git: githosts.GitHost
    keyring: secrets.Keyring
    tokens: auth.Tokens
    conditions: Conditions
    zone: str = ""
    interval: float = 60

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            signer=platform.signer,
            git=platform.git,
            keyring=platform.keyring,
            tokens=platform.tokens,
            conditions=Conditions(),
            zone=platform.zone,
        )
