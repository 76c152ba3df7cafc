"""Dependencies of `codesets`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from fuseml import githosts
from fuseml.githosts import origins
from fuseml.platform import Platform
from fuseml.runtime import auth, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the git host, the keyring that seals webhook secrets, and the tokens of the API and of steps.

    `zone` is the control plane's own, `public_url` the address of the API for senders of webhooks. `origin_hosts` makes the clients of the hosts
    of origins.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    keyring: secrets.Keyring
    tokens: auth.Tokens
    zone: str = ""
    public_url: str = ""
    origin_hosts: origins.Connect = origins.connect

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            git=platform.git,
            keyring=platform.keyring,
            tokens=platform.tokens.accepting(functools.partial(_verify, platform)),
            zone=platform.zone,
            public_url=platform.public_url,
        )


def _verify(platform: Platform, token: str) -> auth.StepCaller:
    # Imported with the first token of a step, which is good for `/whoami` only.
    from fuseml.usecases import step_identity

    return step_identity.verify(platform.store, platform.keyring, token)
