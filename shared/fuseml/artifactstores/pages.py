"""Pages of versions of a store that lists all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuseml.artifactstores.port import Page, Version
from fuseml.domain import errors


def page(found: Sequence[Version], after: str, limit: int) -> Page:
    """At most `limit` of the versions, in their order, behind the version `after`. Raises InvalidError if it is none of them."""
    identifiers = [version.address.version for version in found]
    if after and after not in identifiers:
        raise errors.InvalidError(f"{after[:100]!r} is not the end of a page of versions")
    rest = found[identifiers.index(after) + 1 :] if after else found
    return Page(rest[:limit], rest[limit - 1].address.version if len(rest) > limit else "")


def oldest_first(newest_first: Iterable[Version]) -> list[Version]:
    """The versions, each once, by their time; those of one moment in the reverse of the given order."""
    found = list({version.address: version for version in newest_first}.values())
    found.reverse()
    return sorted(found, key=lambda version: version.created)
