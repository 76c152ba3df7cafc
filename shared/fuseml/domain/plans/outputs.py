"""What a step may put out: names and addresses, not contents. The limit is the same on every engine, and the narrowest of them gives it.

Tekton hands outputs on as JSON in the termination message of a container. Tekton takes 4 KiB of it; the kubelet shares 12 KiB among all
containers of a pod, and cuts off the rest, whereupon Tekton reports success without outputs (infra/platform-facts.md 2.5). There are five
containers at most, or seven where others add theirs (service meshes): 1755 bytes each.
"""

from __future__ import annotations

from collections.abc import Mapping

LIMIT = 1536
"""Bytes that all outputs of a step may take together, as `size` counts."""
AROUND = 40
"""Bytes around the name and the text of each."""
LONG = "<>&" + "".join(chr(code) for code in range(32) if chr(code) not in "\t\n\r")
"""Characters that take six bytes in the JSON that Go writes."""
DOUBLE = '"\\\t\n\r'
"""Characters that take two."""

TOO_LARGE = "its outputs are larger than 1.5 KiB together; write the content to an artifact store, and its address as the output"


def size(written: Mapping[str, bytes]) -> int:
    """What the files that a step has written, by the names of its outputs, take on their way."""
    return sum(AROUND + len(name) + len(content) + 5 * _count(content, LONG) + _count(content, DOUBLE) for name, content in written.items())


def _count(content: bytes, characters: str) -> int:
    return sum(content.count(character.encode()) for character in characters)
