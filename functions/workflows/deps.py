"""Dependencies of `workflows`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import githosts
from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What workflows need from the outside. `zone` is where the engine runs its steps."""

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str
