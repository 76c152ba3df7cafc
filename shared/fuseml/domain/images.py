"""Names of container images, and their names in a mirror: `ghcr.io/fuseml/predictor:v1` is `MIRROR/fuseml/predictor:v1` there."""

from __future__ import annotations

SHIPPED = "ghcr.io/fuseml/"
"""The beginning of the names of the images that FuseML publishes: its functions, built-in steps and model server."""

_HUB = "docker.io"


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
