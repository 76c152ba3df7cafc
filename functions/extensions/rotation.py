"""Rotation of the keys that seal secrets: a fresh key where the server owns its keys, then everything is sealed anew with the first one.

Old keys still unseal, and each portion is a transaction of its own: whatever stops a rotation, all stays readable, and the next
one completes it.
"""

from __future__ import annotations

from functions.extensions.deps import Deps
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.store import extensions, webhooks

_PORTION = 100


class Rotated(document.Model):
    """How many values were sealed anew; those that applications hold are credentials too. `unreadable` names what holds values that none of the keys opens; they stay as they are."""

    credentials: int
    webhook_secrets: int
    unreadable: list[str]


def rotate(deps: Deps) -> Rotated:
    """Bring everything to the newest key. Doing so again changes nothing, unless there is a newer key."""
    # Only here: who asks for tools need not map codesets and applications.
    from fuseml.store import applications, codesets

    if deps.renew is not None:
        deps.renew()
    credentials, hooks, others = _Sealer(deps, "extension "), _Sealer(deps, "codeset "), _Sealer(deps, "")
    served = _Sealer(deps, "application ")
    last: str | None = ""
    while last is not None:
        with deps.store.write() as session:
            read = extensions.reseal(session, credentials.change, last, _PORTION)
        last = read[-1] if read else None
    with deps.store.write() as session:
        codesets.reseal(session, hooks.change)
        webhooks.reseal(session, others.change)
        applications.reseal(session, served.change)
    unreadable = [*credentials.unreadable, *hooks.unreadable, *others.unreadable, *served.unreadable]
    return Rotated(
        credentials=credentials.changed + served.changed,
        webhook_secrets=hooks.changed + others.changed,
        unreadable=list(dict.fromkeys(unreadable)),
    )


class _Sealer:
    """Seals values of one kind of owner, and remembers how it went."""

    def __init__(self, deps: Deps, kind: str) -> None:
        self._keyring, self._kind = deps.keyring, kind
        self.changed = 0
        self.unreadable: dict[str, None] = {}

    def change(self, owner: str, sealed: str) -> str:
        try:
            again = self._keyring.reseal(sealed)
        except errors.PermanentError:
            self.unreadable[f"{self._kind}{owner}"] = None
            return sealed
        self.changed += again != sealed
        return again
