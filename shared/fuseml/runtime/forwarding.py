"""Header fields of forwarded requests and responses: which ones a proxy passes on (RFC 9110, 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable

from fuseml.domain import errors
from fuseml.runtime import catalog

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The next hop has its own; and claims of a sender about itself, its way here and its method, which only a trusted proxy may make.
_OWN = frozenset({"host", "content-length"})
_CLAIMS = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-original-method",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "script-name",
        "path-info",
    }
)
_CLAIM_PREFIXES = ("x-forwarded-", "fuseml-")
# It decides about statuses and fields only, never about rights.
_OF_CLIENTS = frozenset({catalog.CLIENT.lower()})


def request_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a request for the next hop.

    Raises InvalidError for a `Connection` field that names a field of the request: a proxy that obeyed would take it from the function.
    """
    listed = [(name.lower(), name, value) for name, value in fields]
    options = {option.strip().lower() for lower, _, value in listed if lower == "connection" for option in value.split(",")}
    taken = sorted(options - _HOP_BY_HOP - {"", "close"} & {lower for lower, _, _ in listed})
    if taken:
        raise errors.InvalidError(f"the Connection header names {', '.join(taken)}, which is not of one connection only")
    return [
        (name, value)
        for lower, name, value in listed
        if lower not in _HOP_BY_HOP | _OWN | _CLAIMS
        and "_" not in lower
        and (lower in _OF_CLIENTS or not lower.startswith(_CLAIM_PREFIXES))
    ]


def response_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a response for the caller. FuseML permits no page of another origin to read it (CORS), whatever a tool permits."""
    return [(name, value) for name, value in fields if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("access-control-")]
