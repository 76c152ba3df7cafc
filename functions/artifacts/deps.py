"""Dependencies of `artifacts`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.runtime import auth, cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What artifacts need from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    tokens: auth.Tokens
