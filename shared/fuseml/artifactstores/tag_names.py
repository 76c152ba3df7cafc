"""Names of tags: text that every store and every command line can hold."""

from __future__ import annotations

import re

from fuseml.domain import errors

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def check(tag: str) -> str:
    """The tag. Raises InvalidError with the allowed characters."""
    if not _NAME.fullmatch(tag):
        raise errors.InvalidError(
            f"{tag[:100]!r} cannot be a tag: letters, digits, '_', '-' and '.', at most 100, not beginning with '-' or '.'"
        )
    return tag
