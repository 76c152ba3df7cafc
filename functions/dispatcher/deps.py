"""Dependencies of `dispatcher`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import engines, githosts
from fuseml.runtime import cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The dependencies of dispatching. `zone` is the zone in which the engine runs steps. `clones`: the engine clones codesets over the
    network, and so needs an account for each.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    engine: engines.Engine
    keyring: secrets.Keyring
    zone: str
    namespace: str
    clones: bool = False
