"""Rotation of the sealing keys: a fresh key if the server owns its keys, then all secrets are sealed again with the newest key.

Old keys still unseal, and each batch is a transaction: after an interrupted rotation all secrets are readable, and the next rotation
completes it.
"""

from __future__ import annotations

from functions.extensions.deps import Deps
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.store import extensions, webhooks

_BATCH = 100


class RotationResult(document.Model):
    """The numbers of values sealed again; credentials include those of applications. `unreadable` names the owners of values that no key
    unseals; these values stay as they are.
    """

    credentials: int
    webhook_secrets: int
    unreadable: list[str]


def rotate(deps: Deps) -> RotationResult:
    """Seal all secrets with the newest key. A repetition changes nothing unless there is a newer key."""
    # Imported here: no other route needs the tables of codesets and applications.
    from fuseml.store import applications, codesets, origins

    if deps.renew is not None:
        deps.renew()
    credentials, hooks, others = _Sealer(deps, "extension "), _Sealer(deps, "codeset "), _Sealer(deps, "")
    served = _Sealer(deps, "application ")
    last: str | None = ""
    while last is not None:
        with deps.store.write() as session:
            ids = extensions.reseal(session, credentials.change, last, _BATCH)
        last = ids[-1] if ids else None
    with deps.store.write() as session:
        codesets.reseal(session, hooks.change)
        webhooks.reseal(session, others.change)
        origins.reseal(session, others.change)
        applications.reseal(session, served.change)
    unreadable = [*credentials.unreadable, *hooks.unreadable, *others.unreadable, *served.unreadable]
    return RotationResult(
        credentials=credentials.changed + served.changed,
        webhook_secrets=hooks.changed + others.changed,
        unreadable=list(dict.fromkeys(unreadable)),
    )


class _Sealer:
    """Seals the values of one kind of owner, and collects the results."""

    def __init__(self, deps: Deps, kind: str) -> None:
        self._keyring, self._kind = deps.keyring, kind
        self.changed = 0
        self.unreadable: dict[str, None] = {}

    def change(self, owner: str, sealed: str) -> str:
        try:
            resealed = self._keyring.reseal(sealed)
        except errors.PermanentError:
            self.unreadable[f"{self._kind}{owner}"] = None
            return sealed
        self.changed += resealed != sealed
        return resealed
