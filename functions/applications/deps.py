"""Dependencies of `applications`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from fuseml import servings
from fuseml.platform import Platform
from fuseml.runtime import auth, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the tokens of the API and of steps, the keyring that seals environments, and the servings."""

    store: database.Database
    tokens: auth.Tokens
    keyring: secrets.Keyring
    serving: servings.Servings

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        return cls(
            store=platform.store,
            tokens=platform.tokens.accepting(functools.partial(_verify, platform)),
            keyring=platform.keyring,
            serving=platform.serving,
        )


def _verify(platform: Platform, token: str) -> auth.StepCaller:
    # Imported with the first token of a step: other requests need no runs.
    from fuseml.usecases import step_identity

    return step_identity.verify(platform.store, platform.keyring, token)
