"""The documents of the OCI distribution API, which any registry may answer with. Pure: each reader raises PermanentError for nonsense."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fuseml.domain import artifact, errors

# Of the distribution specification.
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def tags(document: Mapping[str, Any]) -> list[str]:
    """The names in a list of tags. `null` stands for none."""
    found = document.get("tags") or []
    if not isinstance(found, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in found):
        raise _nonsense("list of tags")
    return found


def size(manifest: Mapping[str, Any]) -> int:
    """The bytes of the layers of an image, or of the manifests of an index."""
    found = manifest.get("layers") or manifest.get("manifests") or []
    if not isinstance(found, list):
        raise _nonsense("list of layers")
    return sum(_size(item) for item in found)


def config(manifest: Mapping[str, Any], most: int) -> str:
    """The digest of the configuration of an image; empty for an index, for artifacts without one, and for one of more than `most` bytes."""
    found = manifest.get("config")
    if found is None:
        return ""
    digest = found.get("digest") if isinstance(found, dict) else None
    if not isinstance(digest, str):
        raise _nonsense("configuration of an image")
    return digest if re.fullmatch(artifact.DIGEST, digest) and _size(found) <= most else ""


def texts(document: object, key: str) -> dict[str, str]:
    """The texts under a key; none where the document or the key is missing."""
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found or {}, dict):
        raise _nonsense(f"mapping {key!r}")
    return {str(name): str(value) for name, value in (found or {}).items()}


def _size(item: object) -> int:
    """The stated bytes; 0 without a number."""
    if not isinstance(item, dict):
        raise _nonsense("size")
    found = item.get("size")
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63):
        raise errors.PermanentError(f"the registry's answer is damaged: its manifest states the size {str(found)[:40]!r}")
    return found or 0


def _nonsense(subject: str) -> errors.PermanentError:
    return errors.PermanentError(f"the registry's answer holds no {subject} of the distribution API")
