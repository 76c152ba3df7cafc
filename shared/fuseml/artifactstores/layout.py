"""The keys of a bucket of artifacts. Each name of a kind and project has files, manifests, versions and tags of its own.

<kind>/<project>/<name>/files/<sha256>              the bytes of a file
                        manifests/<sha256>          the manifest of a written version
                        moments/<sha256>            the moment of its first commit, which orders it among the others
                        versions/<moment>-<sha256>  the record of a committed version; the version is visible while it exists
                        tags/<tag>                  a tag, and the sha256 of the version that it names
                        discards/<number>           the mark of a process that deletes leftovers
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from fuseml.domain.artifact import Address

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
_LONGEST = 150
_DIGITS = 13
_ENTRY = re.compile(rf"(\d{{{_DIGITS}}})-([0-9a-f]{{64}})")


def escaped(name: str) -> str:
    """A name as one part of a key. Different names have different parts; a long one stands by its digest."""
    encoded = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in encoded)
    if text[:1] in ("-", "."):
        text = f"_{encoded[0]:02x}{text[1:]}"
    # `_h` is no escape.
    return text if 0 < len(text) <= _LONGEST else f"_h{hashlib.sha256(encoded).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one name."""

    root: str

    @staticmethod
    def of(kind: str, project: str, name: str) -> Keys:
        """The keys of this name."""
        return Keys("/".join(escaped(part) for part in (kind, project, name)))

    @staticmethod
    def of_address(address: Address) -> Keys:
        """The keys of the name of an artifact."""
        return Keys.of(address.kind, address.project, address.name)

    @property
    def owner(self) -> str:
        """What the keys of all names of this kind and project begin with."""
        return self.root.rpartition("/")[0]

    @property
    def files(self) -> str:
        return f"{self.root}/files"

    @property
    def manifests(self) -> str:
        return f"{self.root}/manifests"

    @property
    def versions(self) -> str:
        return f"{self.root}/versions"

    @property
    def moments(self) -> str:
        return f"{self.root}/moments"

    @property
    def tags(self) -> str:
        return f"{self.root}/tags"

    @property
    def discards(self) -> str:
        return f"{self.root}/discards"

    def file(self, digest: str) -> str:
        return f"{self.files}/{digest}"

    def manifest(self, digest: str) -> str:
        return f"{self.manifests}/{digest}"

    def moment(self, digest: str) -> str:
        return f"{self.moments}/{digest}"

    def version(self, moment: int, digest: str) -> str:
        return f"{self.versions}/{moment:0{_DIGITS}d}-{digest}"

    def discard(self, number: str) -> str:
        return f"{self.discards}/{number}"

    def tag(self, tag: str) -> str:
        return f"{self.tags}/{escaped(tag)}"


def moment_and_digest(key: str) -> tuple[int, str] | None:
    """Milliseconds and sha256 of the key of a version; None for another key."""
    match = _ENTRY.fullmatch(key.rpartition("/")[2])
    return (int(match[1]), match[2]) if match else None
