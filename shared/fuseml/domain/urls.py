"""URLs with an account: `https://ada:password@host/path`. Messages, arguments and logs show them without it."""

from __future__ import annotations

import re
import urllib.parse

_ACCOUNT = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")


def shown(text: str) -> str:
    """The text with every URL in it without its account."""
    return _ACCOUNT.sub("", text) if "@" in text else text


def split(url: str) -> tuple[str, str, str]:
    """The URL without its account, the user name and the password; both are empty without an account."""
    bare = shown(url)
    match = _ACCOUNT.search(url)
    if match is None:
        return bare, "", ""
    user, _, password = match[0].removesuffix("@").partition(":")
    return bare, urllib.parse.unquote(user), urllib.parse.unquote(password)
