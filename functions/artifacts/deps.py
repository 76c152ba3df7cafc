"""Dependencies of `artifacts`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, secrets, signing
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, API tokens, and the keyring that opens the accounts of artifact stores. Stores are chosen
    for the control plane's own `zone`.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    tokens: auth.Tokens
    keyring: secrets.Keyring
    zone: str = ""

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            signer=platform.signer,
            tokens=platform.tokens,
            keyring=platform.keyring,
            zone=platform.zone,
        )
