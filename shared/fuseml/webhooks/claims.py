"""The claims of a delivery that is not yet verified, found without parsing it: the repository, whose secret must fit, and the commit.

A body is scanned in parts, in linear time and bounded memory. In JSON, a quoted key cannot be part of a text: its quotes would be escaped.
"""

from __future__ import annotations

import re

_REPOSITORY = re.compile(rb'"full_name"\s{0,9}:\s{0,9}"([A-Za-z0-9_.-]{1,255})/([A-Za-z0-9_.-]{1,255})"')
_AFTER = re.compile(rb'"after"\s{0,9}:\s{0,9}"([0-9a-f]{40}(?:[0-9a-f]{24})?)"')
# Longer than any match.
_OVERLAP = 600
_MOST_REPOSITORIES = 4


class Claims:
    """`repositories` are (owner, name), in their order in the body, at most four; `commit` is the first `after`."""

    def __init__(self) -> None:
        self.repositories: list[tuple[str, str]] = []
        self.commit: str | None = None
        self._rest = b""

    def feed(self, part: bytes) -> None:
        """Read the next part of the body."""
        text = self._rest + part
        self._rest = text[-_OVERLAP:]
        for match in _REPOSITORY.finditer(text):
            named = (match[1].decode(), match[2].decode())
            if named not in self.repositories and len(self.repositories) < _MOST_REPOSITORIES:
                self.repositories.append(named)
        if self.commit is None and (after := _AFTER.search(text)):
            self.commit = after[1].decode()
