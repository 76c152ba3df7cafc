"""The password with which git reads and pushes one codeset: made with its registration, replaced by a rotation, gone with its deletion."""

from __future__ import annotations

import secrets as random_secrets

from fuseml.runtime import secrets
from fuseml.store import codesets


def new_password() -> str:
    """A fresh password."""
    return random_secrets.token_urlsafe(32)


def password(keyring: secrets.Keyring, row: codesets.Codeset) -> str:
    """The codeset's password; one that was registered by a former release and never rotated has the one that follows from the keys."""
    return keyring.unseal(row.git_password) if row.git_password else keyring.derive(f"git:{row.project}/{row.name}")


def is_password(keyring: secrets.Keyring, row: codesets.Codeset | None, given: str) -> bool:
    """Whether `given` opens the codeset; nothing opens an unknown one."""
    return row is not None and secrets.same(given, password(keyring, row))
