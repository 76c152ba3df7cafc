"""Dependencies of `runs`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import contents, engines
from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, API tokens, the `engine` that runs steps in `zone`, and the `contents` with the logs of finished runs."""

    store: database.Database
    publisher: cloudevents.Publisher
    engine: engines.Engine
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str
    tracking_url: str = ""
    contents: contents.Contents | None = None

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            engine=platform.engine,
            tokens=platform.tokens,
            public_url=platform.public_url,
            zone=platform.zone,
            namespace=platform.namespace,
            tracking_url=platform.tracking_url,
            contents=platform.contents,
        )
