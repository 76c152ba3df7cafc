"""Dependencies of `dispatcher`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import engines, githosts
from fuseml.runtime import cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What dispatching needs from the outside. `zone` is where the engine runs its steps; `clones` tells that it gets codesets over the
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
