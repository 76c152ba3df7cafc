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
        raise unconfigured()
    return digest_with(secret.encode(), parts)


def digest_with(key: bytes, parts: Iterable[bytes]) -> bytes:
    """HMAC-SHA256 of a body that is read in parts, with a key of bytes."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        mac.update(part)
    return mac.digest()


def unconfigured() -> errors.PermanentError:
    """The refusal of every delivery where no secret is configured."""
    return errors.PermanentError(_UNCONFIGURED)


def same(expected: str, given: str) -> bool:
    """Compare in constant time; surrounding white space of `given` does not count."""
    # compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(expected.encode(), given.strip().encode("utf-8", "replace"))


def verify_any(secrets: Sequence[str], verify: Callable[[str], None]) -> None:
    """Accept a delivery that one of `secrets` verifies: the current one comes first, replaced ones stay valid for a while.

    Raises the UnauthenticatedError of the current secret, and PermanentError without any secret.
    """
    if not secrets:
        raise unconfigured()
    current, *former = secrets
    try:
        verify(current)
    except errors.UnauthenticatedError:
        for secret in former:
            with contextlib.suppress(errors.UnauthenticatedError):
                return verify(secret)
        raise
