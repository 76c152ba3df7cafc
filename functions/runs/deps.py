"""Dependencies of `runs`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import contents, engines
from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The dependencies of reading and requesting runs. `zone` is the zone in which the engine runs steps; `contents` holds archived logs."""

    store: database.Database
    publisher: cloudevents.Publisher
    engine: engines.Engine
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str
    contents: contents.Contents | None = None
