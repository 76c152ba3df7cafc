"""Signatures of webhooks: HMAC-SHA256 with a shared secret, compared in constant time."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

from fuseml.domain import errors

_UNCONFIGURED = "no webhook secret is configured: without one, any sender could start runs; set a secret on both sides"


def digest(secret: str, signed: bytes) -> bytes:
    """HMAC-SHA256. Raises PermanentError for an empty secret."""
    return digest_of(secret, (signed,))


def digest_of(secret: str, parts: Iterable[bytes]) -> bytes:
    """HMAC-SHA256 of a body that is read in parts. Raises PermanentError for an empty secret."""
    if not secret:
        raise errors.PermanentError(_UNCONFIGURED)
    mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for part in parts:
        mac.update(part)
    return mac.digest()


def same(expected: str, given: str) -> bool:
    """Compare in constant time; surrounding white space of `given` does not count."""
    # compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(expected.encode(), given.strip().encode("utf-8", "replace"))


def verify_any(secrets: Sequence[str], verify: Callable[[str], None]) -> None:
    """Accept a delivery that one of `secrets` verifies: the current one comes first, replaced ones stay valid for a while.

    Raises the UnauthenticatedError of the current secret, and PermanentError without any secret.
    """
    if not secrets:
        raise errors.PermanentError(_UNCONFIGURED)
    current, *former = secrets
    try:
        verify(current)
    except errors.UnauthenticatedError:
        for secret in former:
            with contextlib.suppress(errors.UnauthenticatedError):
                return verify(secret)
        raise
