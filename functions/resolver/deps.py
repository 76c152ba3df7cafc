"""Dependencies of `resolver`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.runtime import auth
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What resolution needs from the outside. `zone` is the control plane's own."""

    store: database.Database
    tokens: auth.Tokens
    zone: str
