"""Dependencies of `dispatcher`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import engines, githosts
from fuseml.platform import Platform
from fuseml.runtime import cloudevents, secrets, signing
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, the git host, the keyring, and the `engine` that runs steps in `zone` and `namespace`.

    `clones`: the engine clones codesets over the network, and so needs an account for each.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    git: githosts.GitHost
    engine: engines.Engine
    keyring: secrets.Keyring
    zone: str
    namespace: str
    tracking_url: str = ""
    clones: bool = False

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            signer=platform.signer,
            git=platform.git,
            engine=platform.engine,
            keyring=platform.keyring,
            zone=platform.zone,
            namespace=platform.namespace,
            tracking_url=platform.tracking_url,
            clones=platform.clones,
        )
