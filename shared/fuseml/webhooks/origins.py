"""Webhooks of the hosts of origins: the proof of a delivery, and the change that it reports.

Nothing of a body is read: a genuine delivery only says that it is time to look at the origin.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from fuseml.webhooks import gitea, gitlab, wire

_CODE_EVENTS = {"push": "push", "create": "new ref", "delete": "deletion", "pull_request": "pull request"}


@dataclass(frozen=True, slots=True)
class Report:
    """`change` is what happened at the origin; empty for an event that cannot be about new code, as `event` names it."""

    event: str
    change: str
    delivery: str


def is_proved(headers: wire.Headers) -> bool:
    """Whether the headers have a proof, right or wrong."""
    return gitea.is_signed(headers) or gitlab.is_signed(headers)


def verify(host: str, secret: str, headers: wire.Headers, body: Iterable[bytes], now: float) -> None:
    """Accept a delivery that the `host` (domain.origins.Host) proves with `secret`. Raises UnauthenticatedError, PermanentError."""
    if host == "gitlab":
        gitlab.verify(secret, signing_key(secret), headers, body, now)
    else:
        gitea.verify(secret, headers, body)


def signing_key(secret: str) -> bytes:
    """The key with which GitLab signs deliveries: it follows from the webhook's secret, and does not reveal it."""
    return hashlib.sha256(f"fuseml:gitlab:{secret}".encode()).digest()


def signing_token(secret: str) -> str:
    """The signing key in the form of GitLab's API."""
    return "whsec_" + base64.b64encode(signing_key(secret)).decode()


def read(host: str, headers: wire.Headers) -> Report:
    """The report of a verified delivery."""
    given = wire.lower(headers)
    if host == "gitlab":
        event = given.get(gitlab.EVENT, "")
        return Report(event, gitlab.CODE_EVENTS.get(event, ""), gitlab.delivery_id(given))
    event = gitea.event(given)
    return Report(event, _CODE_EVENTS.get(event, ""), gitea.delivery_id(given))
