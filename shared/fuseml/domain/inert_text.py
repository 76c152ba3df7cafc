"""Text from outside that a screen only shows: names, causes and logs may hold characters that a terminal or a page obeys."""

from __future__ import annotations

import re

ACTIVE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""For a class of a regular expression: C0 and C1 controls except tab and line feed, marks and overrides of the direction, separators of lines."""

_HOSTILE = re.compile(f"[{ACTIVE}]")


def visible(text: str) -> str:
    """The text with a visible character in place of each active one. Tabs and line feeds stay."""
    return _HOSTILE.sub(lambda match: _picture(match[0]), text)


def _picture(character: str) -> str:
    # Unicode has pictures of the C0 controls: \u241b for escape.
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
