"""Logs of APIs that give the whole log at each question, within a bound."""

from __future__ import annotations

import json

from fuseml.steps import sdk

MOST = 256 << 20
"""Bytes of an answer. A step has the memory for it, and more than that no person reads."""


def read(url: str, token: str | None) -> bytes | None:
    """The answer; None for one that is too large. Raises HttpError."""
    blocks, size = list[bytes](), 0
    for block in sdk.blocks(url, token=token, timeout=120):
        size += len(block)
        if size > MOST:
            sdk.say(f"note: the log of the job is larger than {MOST >> 20} MiB; the tool has the rest of it")
            return None
        blocks.append(block)
    return b"".join(blocks)


def parsed(text: bytes) -> object:
    """The JSON value of a log or of its line; None for another text."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found
