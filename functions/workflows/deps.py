"""Dependencies of `workflows`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import githosts
from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the git host and API tokens. `zone` is where the engine runs steps."""

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str
    tracking_url: str = ""

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            git=platform.git,
            tokens=platform.tokens,
            public_url=platform.public_url,
            zone=platform.zone,
            namespace=platform.namespace,
            tracking_url=platform.tracking_url,
        )
