"""Signatures of events: HMAC-SHA256 with keys that only the functions have, so that events of FuseML's types cannot be forged.

Two keys are valid at a time. The older one signs: a function that has not yet learned of a rotation knows it, too. So a rotation, even one
pod after another, makes no event invalid, and the next rotation retires a key that nothing has signed with since.

Events are signed where they leave the database, not where they enter it: outbox, recorded replies and the embedded broker's queue are
FuseML's own, and what they hold outlives keys.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Sequence

from fuseml.domain import errors, events, signature, times
from fuseml.runtime import clock

VALID = 2
"""The number of keys that are valid at a time."""
LONGEST_GRACE = 3600.0
"""Seconds after the start of a process for which unsigned events can be allowed at most."""

_VERSION = "v1"
_KEY = re.compile("[0-9a-f]{64}")
_log = logging.getLogger("fuseml.events")


class Signer:
    """Signs events and checks signatures. Its keys appear in no representation of it."""

    def __init__(self, keys: Callable[[], Sequence[str]], *, unsigned_until: str = "") -> None:
        """`keys` returns the present keys, 64 hex digits each, the newest first; the first two are valid.

        Until `unsigned_until` (RFC 3339), events without a signature are accepted: those of a version that did not sign, during the upgrade
        from it. Raises PermanentError for another format, and for more than `LONGEST_GRACE` ahead.
        """
        self._keys, self._unsigned_until = keys, ""
        if not keys() or not all(_KEY.fullmatch(key) for key in keys()):
            raise errors.PermanentError("the keys of events (FUSEML_EVENT_KEYS) must be one or more of 64 hex digits, comma separated")
        if unsigned_until:
            self._unsigned_until = _moment(unsigned_until)

    def sign(self, event: events.Event) -> events.Event:
        """The event with a signature."""
        key = self._valid()[-1]
        return signature.attach(event, f"{_VERSION}.{_id(key)}.{_mac(key, event)}")

    def has_signed(self, event: events.Event) -> bool:
        """Whether the event carries the signature of a valid key."""
        return _problem(event, self._valid()) is None

    def check(self, event: events.Event) -> bool:
        """Whether the event is proven to be FuseML's. Raises UnauthenticatedError for one of FuseML's types that is not."""
        problem = _problem(event, self._valid())
        if problem is None:
            return True
        if not signature.is_required(event):
            return False
        if not signature.of(event) and clock.now() < self._unsigned_until:
            _log.warning("%s %s is not signed; it is accepted until %s, for the upgrade", event.type, event.id, self._unsigned_until)
            return True
        raise errors.UnauthenticatedError(f"the event is not proven to be FuseML's: {problem}")

    def _valid(self) -> Sequence[str]:
        return self._keys()[:VALID]


def _moment(text: str) -> str:
    try:
        if times.parse(text).tzinfo is None:
            raise ValueError("it has no zone")
        moment = times.normalize(text)
    except (ValueError, OverflowError):
        raise errors.PermanentError(f"FUSEML_UNSIGNED_UNTIL must be an RFC 3339 time with its zone, not {text!r}") from None
    if moment > clock.ahead(LONGEST_GRACE):
        raise errors.PermanentError("FUSEML_UNSIGNED_UNTIL must be at most an hour ahead: until then events can be forged")
    return moment


def _problem(event: events.Event, keys: Sequence[str]) -> str | None:
    """The reason why the event carries no signature of these keys; None if it does."""
    given = signature.of(event)
    if not given:
        return "it has no signature"
    version, _, rest = given.partition(".")
    name, _, mac = rest.partition(".")
    if version != _VERSION:
        return "its signature has another version"
    key = next((key for key in keys if _id(key) == name), None)
    if key is None:
        return "its signature was made with another key, or with one that is retired"
    try:
        expected = _mac(key, event)
    except RecursionError:
        return "its data are nested too deeply to be signed"
    return None if hmac.compare_digest(expected.encode(), mac.encode(errors="replace")) else "its signature belongs to another content"


def _mac(key: str, event: events.Event) -> str:
    digest = hmac.digest(bytes.fromhex(key), signature.content(event), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@functools.lru_cache(maxsize=16)
def _id(key: str) -> str:
    return hashlib.sha256(f"fuseml event key {key}".encode()).hexdigest()[:8]
