"""Texts of several YAML documents, separated by `---`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

# At the start of a line, `---` ends a YAML document even inside a text block, so a plain search finds every separator.
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def separate(text: str) -> Iterator[str]:
    """The documents of a text that are not empty, each preceded by line breaks so that it keeps its line numbers."""
    cuts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in itertools.pairwise(cuts):
        lines = text[start:end].removeprefix("---")
        if any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in lines.splitlines()):
            yield "\n" * text.count("\n", 0, start) + text[start:end]
