"""The size limit of a step's outputs, which hold names and addresses, not contents. It is the limit of the narrowest engine, on every engine.

Tekton passes outputs on as JSON in the termination message of a container. Tekton accepts 4 KiB of it; the kubelet divides 12 KiB among all
containers of a pod and cuts off the rest, whereupon Tekton reports success without outputs (infra/platform-facts.md 2.5). A pod has at most
five containers, or seven with those of a service mesh: 1755 bytes each.
"""

from __future__ import annotations

from collections.abc import Mapping

LIMIT = 1536
"""Bytes for all outputs of a step together, as `size` counts them."""
AROUND = 40
"""Bytes around the name and the text of each output."""
LONG = "<>&" + "".join(chr(code) for code in range(32) if chr(code) not in "\t\n\r")
"""Characters that take six bytes in the JSON of Go."""
DOUBLE = '"\\\t\n\r'
"""Characters that take two bytes."""

TOO_LARGE = "its outputs are larger than 1.5 KiB together; write the content to an artifact store, and its address as the output"


def too_large(limit: int) -> str:
    """The cause of a step's failure whose outputs have more than `limit` bytes together: all, or all but the room for a rank."""
    if limit == LIMIT:
        return TOO_LARGE
    return (
        f"its outputs are larger than {limit} bytes together: of {LIMIT} bytes the name of the best combination needs {LIMIT - limit}; "
        "write the content to an artifact store, and its address as the output"
    )


def contains_secret(name: str) -> str:
    """The cause of a step's failure whose output contains a secret of its run."""
    return (
        f"its output {name!r} contains a secret of the run, as it is or encoded, and outputs are published: write the secret to its tool, "
        "and a name or an address as the output (values that are no secrets, such as a bucket or a region, belong in `configuration`)"
    )


def size(written: Mapping[str, bytes]) -> int:
    """Bytes that a step's outputs take in transport. `written` is the content of the files by name of the output."""
    return sum(AROUND + len(name) + len(content) + 5 * _count(content, LONG) + _count(content, DOUBLE) for name, content in written.items())


def _count(content: bytes, characters: str) -> int:
    return sum(content.count(character.encode()) for character in characters)
