"""Dependencies of `codesets`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml import githosts
from fuseml.runtime import auth, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What projects and codesets need from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    keyring: secrets.Keyring
    tokens: auth.Tokens
