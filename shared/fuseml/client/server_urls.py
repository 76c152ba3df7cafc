"""URLs of servers, as users write them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from fuseml.domain import errors, urls

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")


def normal(url: str) -> str:
    """`url` with a scheme and without trailing slashes. Raises InvalidError for an invalid URL and for one with an account."""
    text = url.strip()
    if "://" not in text:
        # As in the original: without a scheme, https is meant, except on this machine, which has no certificate.
        text = f"{'http' if text.partition('/')[0].rpartition(':')[0] in _LOCAL_HOSTS or text in _LOCAL_HOSTS else 'https'}://{text}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise errors.InvalidError(f"{urls.shown(url)!r} is not a server's URL; write it like http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise errors.InvalidError("the server's URL contains credentials; write the token as http://any:TOKEN@HOST, or set FUSEML_TOKEN")
    if not _has_port(parts):
        # What is no port may be the begin of a password.
        raise errors.InvalidError("the server's URL has no valid port; write a / in a token as %2F, or set FUSEML_TOKEN")
    return text.rstrip("/")


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is a number, or none is given."""
    try:
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False
