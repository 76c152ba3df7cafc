"""Tokens of this process for its own children: made when a model server starts, and forgotten when it ends. They open the tracking server
only.
"""

from __future__ import annotations

import secrets
import threading

from fuseml.runtime import auth

_PREFIX = "fuseml-process."


class ProcessTokens:
    """The tokens that are good now. A restart of the server forgets all of them, as it ends their holders."""

    def __init__(self) -> None:
        self._digests: set[str] = set()
        self._lock = threading.Lock()

    def grant(self) -> str:
        """A new token."""
        token = _PREFIX + secrets.token_urlsafe(32)
        with self._lock:
            self._digests.add(auth.digest_of(token))
        return token

    def revoke(self, token: str) -> None:
        """End a token."""
        with self._lock:
            self._digests.discard(auth.digest_of(token))

    def accept(self, token: str) -> bool:
        """Whether the token is good."""
        # By digest: the time of the look-up shows nothing of the token.
        return token.startswith(_PREFIX) and auth.digest_of(token) in self._digests
