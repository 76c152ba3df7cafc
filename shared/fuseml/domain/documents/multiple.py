"""Texts of several YAML documents, separated by `---`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

# At the start of a line, `---` ends a YAML document even inside a text block, so a plain search finds every separator.
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


class Part(NamedTuple):
    """One document of a text, and the number of lines before it: `document.parse(*part)` reports the lines of the whole text."""

    text: str
    lines_before: int


def separate(text: str) -> Iterator[Part]:
    """The documents of a text that are not empty. Takes time in proportion to the text, however many they are."""
    separators = (match.start() for match in _SEPARATOR.finditer(text))
    lines_before = 0
    for start, end in itertools.pairwise(itertools.chain((0,), separators, (len(text),))):
        part = text[start:end]
        lines = part.removeprefix("---").splitlines()
        if any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in lines):
            yield Part(part, lines_before)
        lines_before += part.count("\n")
