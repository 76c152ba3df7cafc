"""Targets of HTTP requests, judged as they were received.

Servers, proxies and frameworks decode and normalise a path at different times. A path that two of them could read differently is refused,
so that an entrance and the function behind it always mean the same resource. Forwarders send on the path that was judged, not a decoded one.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

from fuseml.domain import errors

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# A path needs one escape, the URL of an endpoint in a path a second one (infra/platform-facts.md 6.1), and the URL may hold escapes itself.
_MOST_ESCAPES = 4
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~:@!$&'()*+,=-][A-Za-z0-9_~:@!$&'()*+,=.-]*)*/?")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_IN_TARGET = re.compile(r"[\x00-\x20\x7f#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def path_of(environ: WSGIEnvironment) -> str:
    """The path of a request as it was received, without the query; bytes beyond ASCII are escaped.

    Raises InvalidError for a target that is no path, for one that the server has read differently, and for an ambiguous one (`check`).
    """
    # gunicorn's name, and that of waitress; werkzeug's server and test client set both.
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if not target.startswith("/"):
        raise errors.InvalidError("the target of the request must be a path that begins with /")
    if _NOT_IN_TARGET.search(target):
        raise errors.InvalidError("the address of the request holds a space, a control character or #; escape it, a space as %20")
    if _BROKEN_ESCAPE.search(target):
        raise errors.InvalidError("the address of the request holds a % that begins no escape; write %25")
    path = target.partition("?")[0]
    check(path)
    if urllib.parse.unquote_to_bytes(path.encode("latin-1")) != (environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]).encode("latin-1"):
        raise errors.InvalidError("the path of the request differs from the path in its headers")
    return urllib.parse.quote(path.encode("latin-1"), safe="".join(map(chr, range(0x21, 0x7F))))


def check(path: str) -> None:
    """Refuse a path that a further decoding or normalisation could turn into another one. `path` is in WSGI's encoding, as received.

    Refused are dot segments, also escaped several times; empty segments, except the last; escaped slashes; backslashes and control
    characters; text that is not UTF-8. Raises InvalidError with the cause.
    """
    if _PLAIN.fullmatch(path):
        return
    level = path.encode("latin-1")
    for depth in range(_MOST_ESCAPES + 1):
        _check_level(level, depth)
        decoded = urllib.parse.unquote_to_bytes(level)
        if decoded == level:
            return
        if depth == 0 and decoded.count(b"/") != level.count(b"/"):
            raise errors.InvalidError("the path of the request holds an escaped slash, which servers read differently")
        level = decoded
    raise errors.InvalidError(f"the path of the request is escaped more than {_MOST_ESCAPES} times")


def _check_level(level: bytes, depth: int) -> None:
    try:
        text = level.decode()
    except UnicodeDecodeError:
        raise errors.InvalidError("the address of the request is not UTF-8 text") from None
    if "\\" in text or _CONTROL.search(text):
        raise errors.InvalidError("the path of the request holds a backslash or a control character")
    segments = text.split("/")[1:]
    for number, segment in enumerate(segments, 1):
        # Some servers remove parameters (`;x`) and white space before they normalise.
        name = segment.partition(";")[0].strip()
        if name in (".", ".."):
            raise errors.InvalidError("the path of the request holds the segment . or .., which servers read differently")
        # Deeper, empty segments belong to an escaped URL; without dots they lead nowhere else.
        if not name and depth < 2 and (segment or number < len(segments)):
            raise errors.InvalidError("the path of the request holds an empty segment (//), which servers read differently")


def is_reserved(path: str, prefix: str) -> bool:
    """Whether a judged path has a segment that begins with `prefix` (`/name`), also escaped: a path that no entrance may forward.

    Servers leave out parameters, or dots at the end, in ways of their own, and no name begins so.
    """
    level, segment = path.lower(), prefix.removeprefix("/")
    for _ in range(_MOST_ESCAPES + 1):
        if any(part.strip().startswith(segment) for part in level.split("/")):
            return True
        level = urllib.parse.unquote(level).lower()
    return False
