"""Webhooks of GitLab: proved by a plain token, or by a signature as of the Standard Webhooks specification.

Sources: https://docs.gitlab.com/user/project/integrations/webhooks/ and .../webhook_events/
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from fuseml.domain import errors
from fuseml.webhooks import signatures, wire

EVENT, TOKEN = "x-gitlab-event", "x-gitlab-token"
_UUID, _KEY = "x-gitlab-event-uuid", "idempotency-key"
_ID, _TIME, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

CODE_EVENTS = {"Push Hook": "push", "Tag Push Hook": "tag", "Merge Request Hook": "merge request"}
"""The hooks that can be about new code -> the change."""

MAX_AGE = 300
"""Seconds between the signature of a delivery and its arrival."""


def delivery_id(headers: wire.Headers) -> str:
    """GitLab's id of a delivery, the same when it is repeated; empty without one."""
    return wire.first(wire.lower(headers), _KEY, _ID, _UUID)


def is_signed(headers: wire.Headers) -> bool:
    """Whether the headers have a proof, right or wrong."""
    return any(wire.lower(headers).get(name) for name in (TOKEN, _SIGNATURE))


def verify(secret: str, key: bytes, headers: wire.Headers, body: Iterable[bytes], now: float) -> None:
    """Accept a delivery with the token `secret`, or signed with `key`; where it has both, both must be right.

    A signature is valid `MAX_AGE` seconds before and after `now` (Unix seconds). Raises UnauthenticatedError with the reason, PermanentError
    without a secret.
    """
    if not secret:
        raise signatures.unconfigured()
    given = wire.lower(headers)
    token, signed = given.get(TOKEN, ""), given.get(_SIGNATURE, "")
    if not token and not signed:
        raise errors.UnauthenticatedError("the delivery has neither a secret token nor a signature: enter the codeset's secret at GitLab")
    if token and not signatures.same(secret, token):
        raise errors.UnauthenticatedError(f"the {TOKEN} header is not the secret of the webhook")
    if signed:
        _verify_signature(key, given, signed, body, now)


def _verify_signature(key: bytes, given: wire.Headers, signed: str, body: Iterable[bytes], now: float) -> None:
    moment = given.get(_TIME, "")
    if not (moment.isascii() and moment.isdigit() and len(moment) <= 12):
        raise errors.UnauthenticatedError(f"the {_TIME} header is missing or malformed")
    prefix = f"{given.get(_ID, '')}.{moment}.".encode("utf-8", "replace")
    expected = "v1," + base64.b64encode(signatures.digest_with(key, (prefix, *body))).decode()
    # Several signatures while a key is being replaced.
    if not any(signatures.same(expected, item) for item in signed.split(" ")):
        raise errors.UnauthenticatedError(f"the {_SIGNATURE} header does not fit the body: another key, or the body was changed on its way")
    if abs(now - int(moment)) > MAX_AGE:
        raise errors.UnauthenticatedError(
            f"the delivery is not fresh: it was signed more than {MAX_AGE} seconds ago or ahead; is it replayed, or a clock wrong?"
        )
