"""Names of container images, and their names in a mirror: `ghcr.io/fuseml/predictor:v1` is `MIRROR/fuseml/predictor:v1` there."""

from __future__ import annotations

import re

from fuseml.domain import errors, urls

SHIPPED = "ghcr.io/fuseml/"
"""The beginning of the names of the images that FuseML publishes: its functions, built-in steps and model server."""

_HUB = "docker.io"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


def repository(*parts: str) -> str:
    """The repository of a registry with these parts, of which the first ones may be empty. Raises InvalidError."""
    joined = "/".join(part for part in parts if part)
    if not _REPOSITORY.fullmatch(joined) or len(joined) > 255:
        raise errors.InvalidError(
            f"{joined[:255]!r} cannot be a repository of images: lower-case letters, digits, and '.', '_', '-' between them"
        )
    return joined


def named(url: str, repository: str) -> str:
    """The name of an image in a repository of the registry at a URL: `HOST[:PORT]/REPOSITORY`."""
    return f"{urls.shown(url).rstrip('/').rpartition('//')[2]}/{repository}"


def mirrored(image: str, mirror: str) -> str:
    """The name of an image in a mirror, `HOST[:PORT][/PATH]`: the registry is replaced, repository, tag and digest stay.

    Without a mirror the image stays as it is, and so does one that the mirror holds already.
    """
    if not mirror or image.startswith(f"{mirror.rstrip('/')}/"):
        return image
    registry, _, rest = image.partition("/")
    if not rest:
        registry, rest = _HUB, f"library/{image}"
    elif not any(mark in registry for mark in ".:") and registry != "localhost":
        registry, rest = _HUB, image
    elif registry == _HUB and "/" not in rest:
        rest = f"library/{rest}"
    return f"{mirror.rstrip('/')}/{rest}"


def installed(image: str, mirror: str) -> str:
    """The name under which an installation with this mirror pulls an image that a workflow names: only FuseML's own come from the mirror."""
    return mirrored(image, mirror) if image.startswith(SHIPPED) else image
