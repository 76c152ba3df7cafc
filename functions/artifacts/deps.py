"""Dependencies of `artifacts`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.platform import Platform
from fuseml.runtime import attestation, auth, cloudevents, secrets, signing
from fuseml.store import database
from fuseml.usecases import retention


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, API tokens, the keyring that opens the accounts of artifact stores, and the signer of
    provenance, if any. Stores are chosen for the control plane's own `zone`. `public_url` is the API's address.
    The contents of pruned artifacts go `contents_grace` seconds later.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    tokens: auth.Tokens
    keyring: secrets.Keyring
    zone: str = ""
    attestor: attestation.Attestor | None = None
    public_url: str = ""
    contents_grace: float = retention.CONTENTS_GRACE

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
            attestor=platform.attestor,
            public_url=platform.public_url,
        )
