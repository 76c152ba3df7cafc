"""The names of artifacts that can change: tags, each on one version of a name, and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuseml.domain import errors

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:=-]{0,99}")


@dataclass(frozen=True, slots=True)
class Placed:
    """A tag on the artifact at `address`. An immutable one does not move."""

    address: str
    immutable: bool


def check_tag(tag: str) -> str:
    """Return `tag` if it is one. Raises InvalidError."""
    if not _TAG.fullmatch(tag):
        raise errors.InvalidError(
            f"{tag[:100]!r} is not a tag: letters, digits, '.', '-' and '_', at most 100, not beginning with '.' or '-'"
        )
    return tag


def check_label(label: str) -> str:
    """Return `label` if it is one. Raises InvalidError."""
    if not _LABEL.fullmatch(label):
        raise errors.InvalidError(
            f"{label[:100]!r} is not a label: letters, digits and . - _ : =, at most 100, beginning with a letter, a digit or '_'"
        )
    return label


def place(tag: str, present: Placed | None, address: str, immutable: bool | None) -> Placed:
    """The tag after it is set on `address`. `immutable` None keeps the property, which is false for a new tag.

    An immutable tag becomes movable again only where it is, by `immutable` false. Raises ConflictError for one that would move.
    """
    if present is not None and present.immutable and present.address != address:
        raise errors.ConflictError(
            f"the tag {tag!r} is immutable and on {present.address}; choose another tag, or make it movable there first",
            details={"tag": tag, "address": present.address},
        )
    return Placed(address, immutable if immutable is not None else present is not None and present.immutable)


def check_removal(tag: str, present: Placed) -> None:
    """Raises ConflictError for an immutable tag."""
    if present.immutable:
        raise errors.ConflictError(f"the tag {tag!r} on {present.address} is immutable; make it movable first")
