"""Secrets at rest: Fernet with several keys, of which the first seals and all unseal, so that keys can be rotated."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import pathlib
import tempfile
from collections.abc import Sequence

from cryptography import fernet

from fuseml.domain import errors


class Keyring:
    """Seals and unseals. Its keys appear in no representation of it."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise errors.PermanentError("no secret keys are configured; set FUSEML_SECRET_KEYS to at least one Fernet key")
        try:
            self._fernet = fernet.MultiFernet([fernet.Fernet(key) for key in keys])
        except ValueError as error:
            raise errors.PermanentError(
                "FUSEML_SECRET_KEYS holds something that is not a Fernet key (32 bytes, url-safe base64)"
            ) from error
        # Derived values must outlive a rotation, so they hang on the oldest key.
        self._oldest = keys[-1].encode()

    def seal(self, secret: str) -> str:
        """Text that only this keyring can read."""
        return self._fernet.encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """The secret. Raises PermanentError when none of the keys fits."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except fernet.InvalidToken as error:
            raise errors.PermanentError("a stored secret cannot be read with the configured keys; add the key that sealed it") from error

    def derive(self, purpose: str) -> str:
        """A token for `purpose` that needs no storage: the same keyring always derives the same."""
        return hmac.new(self._oldest, purpose.encode(), hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def read_or_create(path: pathlib.Path, make: str) -> str:
    """The text of a secret file; when it is missing, it is created with `make` as text, readable by its owner only."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        # Only its owner may read such a temporary file.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(make + "\n")
            file.flush()
            os.fsync(file.fileno())
            # A link, not a rename: whoever comes first wins, and both read the same.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
        return path.read_text().strip()


def new_key() -> str:
    """A fresh Fernet key."""
    return fernet.Fernet.generate_key().decode()
