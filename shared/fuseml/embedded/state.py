"""The state of the embedded server: one folder with database, keys and repositories. It outlives the server."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from fuseml.embedded import tracking
from fuseml.runtime import auth, clock, secrets, signing
from fuseml.store import codesets, database, webhooks


@dataclass(frozen=True, kw_only=True)
class State:
    """The folder `home`, with its database, keys and tokens. `signer` follows the rotation of the keyring."""

    home: pathlib.Path
    store: database.Database
    keyring: secrets.Keyring
    renew_keys: Callable[[], None]
    signer: signing.Signer
    tokens: auth.Tokens

    def codeset_secret(self, project: str, codeset: str) -> str:
        """The secret that signs the codeset's webhooks. Raises NotFoundError."""
        with self.store.read() as session:
            return self.keyring.unseal(codesets.codeset(session, project, codeset).webhook_secret)

    def tracker_secret(self) -> str:
        """The secret that signs the embedded MLflow's webhooks; made when it is missing, because MLflow delivers before it is registered."""
        with self.store.read() as session:
            sealed = [*webhooks.of_tracker(session, tracking.EXTENSION, clock.now())]
        if not sealed:
            sealed = [self.keyring.seal(secrets.new_webhook_secret())]
            with self.store.write() as session:
                webhooks.replace_of_tracker(session, tracking.EXTENSION, sealed[0], clock.ahead(secrets.WEBHOOK_OVERLAP))
        return self.keyring.unseal(sealed[0])


def open(home: pathlib.Path, token: str, *, anonymous: bool) -> State:
    """Open the folder, create what is missing, and migrate the database. `token` is the administrator's. Raises PermanentError."""
    store = database.Database(f"sqlite:///{home / 'fuseml.db'}")
    store.migrate()
    keys = secrets.KeyFile(home / "keys")
    keyring = keys.keyring()
    hashes = {auth.digest_of(token): auth.Caller("admin", "admin")}
    return State(
        home=home,
        store=store,
        keyring=keyring,
        renew_keys=functools.partial(keys.renew, keyring),
        signer=signing.Signer(keyring.event_keys),
        tokens=auth.Tokens(hashes, anonymous=anonymous),
    )
