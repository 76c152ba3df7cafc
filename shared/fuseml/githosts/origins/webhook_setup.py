"""The webhook of an origin: one at our address, with our secret.

No host returns the secret of a webhook, so a part of its address identifies the secret. Idempotent; of two at once both end with one webhook.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors
from fuseml.githosts.origins.port import OriginHost, Webhook

MOST = 10
"""Webhooks at our address that are read of a host, and deleted there: each takes a request."""


@dataclass(frozen=True, slots=True)
class State:
    """`set` works as far as the host says, `failing` has a problem, `stale` has a former secret or is off, `missing` does not exist."""

    state: Literal["set", "failing", "stale", "missing"]
    problem: str = ""


def target(address: str, secret: str) -> str:
    """The address of the webhook with this secret."""
    return f"{address}?key={hashlib.sha256(secret.encode()).hexdigest()[:12]}"


def ensure(host: OriginHost, address: str, secret: str) -> None:
    """Create the webhook, and delete those with former secrets. Raises the errors of the host."""
    wanted = target(address, secret)
    own = _own(host, address)
    current = [item for item in own if item.url == wanted and item.active]
    if not current:
        host.add_webhook(wanted, secret)
    # Deleted after the new one exists, so that no push is lost.
    for item in own:
        if item not in current[:1]:
            host.remove_webhook(item.id)


def remove(host: OriginHost, address: str) -> None:
    """Delete the webhooks at our address. Raises the errors of the host."""
    for item in _own(host, address):
        host.remove_webhook(item.id)


def look(host: OriginHost, address: str, secret: str) -> State:
    """The state of the webhook at the host. Raises the errors of the host."""
    own = _own(host, address)
    # One that was entered by hand may leave the part out that identifies the secret.
    current = [item for item in own if item.url in (target(address, secret), address)]
    if not own:
        return State("missing")
    if not current or not any(item.active for item in current):
        return State("stale", next((item.problem for item in current if item.problem), "it is switched off, or has a former secret"))
    problem = next((item.problem for item in current if item.active and item.problem), "")
    return State("failing", problem) if problem else State("set")


def _own(host: OriginHost, address: str) -> list[Webhook]:
    own = [item for item in host.webhooks() if item.url.partition("?")[0] == address]
    if len(own) > MOST:
        raise errors.PermanentError(f"the repository has {len(own)} webhooks for {address}; delete all but one of them at the host")
    return own
