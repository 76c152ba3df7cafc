"""Hostile numbers, addresses and texts, for every route of a server."""

from __future__ import annotations

NUMBERS = ["9" * 26, "9" * 5000, "-1", "-" + "9" * 26, "\u0663", "\u00b2", "\uff11", "1e9", "0x1", "NaN", "1.5", " ", "true"]
ADDRESSES = [b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"a\x00b", b"\xf4\x90\x80\x80"]
TEXTS = [*NUMBERS, "\u202e", "\x1b]52;c;aGk=\x07", "%00", "..", "'", '"', "*", "a" * 5000]
BODIES = {
    "an escape in JSON": ("application/json", b'{"name": "\\ud800", "description": "\\udfff"}'),
    "an escape in a key": ("application/json", b'{"\\ud800": 1}'),
    "bytes in JSON": ("application/json", b'{"name": "\xed\xa0\x80"}'),
    "an escape in YAML": ("application/x-yaml", b'name: "\\ud800"'),
    "bytes in YAML": ("application/x-yaml", b"name: \xed\xa0\x80"),
    "a pair of escapes in YAML": ("application/x-yaml", b'name: "\\ud83d\\ude00"'),
    "an escape in the repository of a push": ("application/json", b'{"repository": {"name": "\\ud800", "owner": {"login": "\\udfff"}}}'),
    "no content type": ("", b'{"name": "\\ud800"}'),
}
