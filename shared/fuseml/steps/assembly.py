"""Assembly of an image in a registry: the manifest of its base, and the push of its blobs and, at last, of its manifest."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fuseml.steps import layers, registry, sdk


@dataclass(frozen=True)
class Built:
    """A new image: manifest and configuration, and the layers on top of those of its base, each with its bytes."""

    manifest: layers.Document
    configuration: bytes
    top: Sequence[tuple[layers.Blob, registry.Content]]


def manifest_of(source: registry.Repository) -> tuple[str, layers.Document]:
    """Digest and manifest of the image of the repository; of an index, those for this machine. Raises StepError for another kind."""
    digest, manifest = source.manifest(source.image.version or "latest")
    if manifest["mediaType"] in (layers.OCI_INDEX, layers.DOCKER_LIST):
        digest, manifest = source.manifest(layers.platform_manifest(manifest, platform.machine(), source.image.name))
    if manifest["mediaType"] not in (layers.OCI_MANIFEST, layers.DOCKER_MANIFEST):
        raise sdk.StepError(f"cannot add a layer to {source.image.name}: its manifest is of the type {manifest['mediaType']}")
    return digest, manifest


def blob(descriptor: layers.Document) -> layers.Blob:
    """The blob that a manifest names."""
    return layers.Blob(descriptor["digest"], descriptor["size"])


def push(source: registry.Repository | None, target: registry.Repository, tag: str, image: Built) -> str:
    """Push the layers, those below from the repository of the base, then the configuration and the manifest. Returns the digest of the image."""
    started = time.monotonic()
    below = [blob(entry) for entry in image.manifest["layers"]][: len(image.manifest["layers"]) - len(image.top)]
    copied: list[layers.Blob] = []
    if source is not None:
        origin = source.image.repository if source.image.registry == target.image.registry else ""
        copied = [item for item in below if target.push(item, functools.partial(source.open, item), origin)]
    for item, content in image.top:
        target.push(item, content)
    target.push_bytes(image.configuration)
    digest = target.tag(tag, image.manifest)
    size = f", {sum(item.size for item in copied) / 1e6:.1f} MB of it copied from {source.image.name}" if source and copied else ""
    sdk.say(f"image {target.image.name}:{tag} pushed in {time.monotonic() - started:.1f} s{size}")
    return digest
