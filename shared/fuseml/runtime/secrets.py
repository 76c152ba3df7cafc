"""Secrets at rest: Fernet with several keys, of which the first seals and all unseal, so that keys can be rotated."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import pathlib
import secrets as random_secrets
import tempfile
import threading
from collections.abc import Sequence

from cryptography import fernet

from fuseml.domain import errors

WEBHOOK_OVERLAP = 24 * 3600.0
"""Seconds for which a replaced webhook secret is still accepted: time to give the sender the new one."""

_EVENT_KEYS = 2


class Keyring:
    """Seals and unseals. Its keys appear in no representation of it."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` are Fernet keys, the newest first. Raises PermanentError for none, and for a key of another format."""
        if not keys:
            raise errors.PermanentError("no secret keys are configured; set FUSEML_SECRET_KEYS to at least one Fernet key")
        try:
            self._keys = tuple(fernet.Fernet(key) for key in keys)
        except ValueError as error:
            raise errors.PermanentError(
                "FUSEML_SECRET_KEYS holds something that is not a Fernet key (32 bytes, url-safe base64)"
            ) from error
        self._raw = tuple(key.encode() for key in keys)
        # Derived values must survive a rotation, so they depend on the oldest key.
        self._oldest = keys[-1].encode()
        self._event_keys = tuple(_event_key(key) for key in keys[:_EVENT_KEYS])

    def adopt(self, key: str) -> None:
        """Seal with `key` from now on; the others still unseal."""
        self._keys, self._raw = (fernet.Fernet(key), *self._keys), (key.encode(), *self._raw)
        self._event_keys = (_event_key(key), *self._event_keys)[:_EVENT_KEYS]

    def event_keys(self) -> Sequence[str]:
        """The keys for `signing.Signer`, derived from the newest two keys, the newest first. They unseal nothing."""
        return self._event_keys

    def seal(self, secret: str) -> str:
        """Text that only this keyring can read."""
        return self._keys[0].encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """The secret. Raises PermanentError when none of the keys fits."""
        for key in self._keys:
            with contextlib.suppress(fernet.InvalidToken):
                return key.decrypt(sealed.encode()).decode()
        raise errors.PermanentError("a stored secret cannot be read with the configured keys; add the key that sealed it")

    def reseal(self, sealed: str) -> str:
        """The same secret sealed with the first key; `sealed` itself where it is already. Raises PermanentError as `unseal` does."""
        try:
            self._keys[0].decrypt(sealed.encode())
        except fernet.InvalidToken:
            return self.seal(self.unseal(sealed))
        return sealed

    def derive(self, purpose: str) -> str:
        """A token for `purpose` that needs no storage: one keyring derives one token."""
        return hmac.new(self._oldest, purpose.encode(), hashlib.sha256).hexdigest()

    def sign(self, purpose: str, text: str) -> str:
        """A signature of `text` by the newest key. A signature for one purpose is none for another."""
        return _signature(self._raw[0], purpose, text)

    def has_signed(self, purpose: str, text: str, signature: str) -> bool:
        """Whether one of the keys has signed `text`: signatures outlive a rotation as long as their key is configured."""
        return any(same(signature, _signature(key, purpose, text)) for key in self._raw)


def _signature(key: bytes, purpose: str, text: str) -> str:
    own = hmac.new(key, f"sign:{purpose}".encode(), hashlib.sha256).digest()
    return hmac.new(own, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


class KeyFile:
    """The keys of a server that owns them: one a line, the newest first, readable by their owner only."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._turn = threading.Lock()

    def keyring(self) -> Keyring:
        """All keys; a missing file is made with a fresh one."""
        return Keyring(read_or_create(self._path, new_key()).split())

    def renew(self, keyring: Keyring) -> None:
        """Put a fresh key in front, in the file and then in its keyring: no secret is sealed with a key that is not on disk."""
        with self._turn:
            key = new_key()
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=f".{self._path.name}.", delete=False) as file:
                file.write("\n".join([key, *self._path.read_text().split()]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            pathlib.Path(file.name).replace(self._path)
            keyring.adopt(key)


def _event_key(key: str) -> str:
    return hmac.digest(key.encode(), b"fuseml:event-signature:1", hashlib.sha256).hex()


def new_webhook_secret() -> str:
    """A fresh secret that signs webhooks."""
    return random_secrets.token_hex(32)


def same(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


def read_or_create(path: pathlib.Path, make: str) -> str:
    """The text of a secret file; a missing file is created with the text `make`, readable by its owner only."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        # Only its owner may read such a temporary file.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(make + "\n")
            file.flush()
            os.fsync(file.fileno())
            # A link, not a rename: the first of two processes creates the file, and both read the same.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
        return path.read_text().strip()


def new_key() -> str:
    """A fresh Fernet key."""
    return fernet.Fernet.generate_key().decode()
