"""Step that builds the image of a runnable (`ghcr.io/fuseml/image-builder`): of the codeset in the current folder, by its Dockerfile.

The plan of a run inserts it. Its inputs: FUSEML_DOCKERFILE, the path of the file; FUSEML_IMAGE and FUSEML_TAG, the name of the image without
and its tag; FUSEML_REGISTRY_URL, the URL of the registry, with REGISTRY_USERNAME and REGISTRY_PASSWORD as its account; FUSEML_ARTIFACT, the
address of the image without its version. FUSEML_PLAIN_REGISTRIES are registries that speak plain HTTP. Outputs: `image`, the image by its
digest, and `artifact`, its address. An image with the tag is not built again.

A Dockerfile without RUN needs no program: its files become one layer on top of its base. For another one the engine sets FUSEML_BUILD_FOLDER, where
a container of the same pod finds the request and leaves the image, which the argument `push` pushes; or FUSEML_BUILD_PROGRAM, a program of this
machine, with its FUSEML_BUILD_HOME.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from fuseml.steps import assembly, layers, references, registry, sdk
from fuseml.steps.dockerfiles import base_files, building, recipe, stages, syntax
from fuseml.steps.dockerfiles.context import Context

_LABELS = "org.opencontainers.image"
_NO_PROGRAM = (
    "needs a program that builds images, and there is none: on a cluster an administrator allows it (task deploy -- --image-builds yes), "
    "on a machine install podman or buildah; or leave out what needs it"
)


def main() -> None:
    """Build the image, or find it; with the argument `push`, push the one that another container has built."""
    with contextlib.closing(_target()) as target:
        tag, asked = sdk.input("tag"), sdk.input("build-folder", "")
        if sys.argv[1:] == ["push"]:
            if (Path(asked) / building.REQUEST).exists():
                _report(target, building.push(Path(asked), target, tag))
            return
        existing = target.find(tag)
        if existing is not None:
            sdk.say(f"image {target.image.name}:{tag} exists; nothing to build")
            _report(target, existing)
            return
        digest = _built(target, tag, asked)
        if digest:
            _report(target, digest)


def _report(target: registry.Repository, digest: str) -> None:
    image = f"{target.image.name}@{digest}"
    sdk.output("artifact", f"{sdk.input('artifact')}/{digest}")
    sdk.output(sdk.first_output("image"), image)
    sdk.say(f"image: {image}")


def _built(target: registry.Repository, tag: str, asked: str) -> str:
    """The digest of a new image; empty if another container builds it."""
    root, name = Path.cwd(), sdk.input("dockerfile")
    try:
        text = sdk.read_file(root, name)
    except sdk.StepError as error:
        raise sdk.StepError(f"the Dockerfile of the runnable: {error}") from None
    dockerfile = syntax.parse(text, name)
    reason = recipe.unsupported(dockerfile)
    if not reason:
        try:
            return _assembled(dockerfile, Context(root, name), target.image, tag)
        except syntax.UnsupportedError as error:
            reason = str(error)
    program = sdk.input("build-program", "")
    if not asked and not program:
        raise sdk.StepError(f"{name} {_NO_PROGRAM} ({reason})")
    sdk.say(f"{name} is built by a program: {reason}")
    plain = _has_plain_bases(dockerfile)
    if asked:
        building.ask(Path(asked), root, name, plain=plain)
        return ""
    with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
        building.ask(Path(scratch), root, name, plain=plain)
        building.run(program, Path(scratch), root, sdk.input("build-home", str(Path.home())))
        return building.push(Path(scratch), target, tag)


def _assembled(dockerfile: syntax.Dockerfile, context: Context, wanted: references.Reference, tag: str) -> str:
    """The digest of the image of the base and a layer. Raises UnsupportedError for one that needs a program."""
    started, named = time.monotonic(), stages.base(dockerfile)
    with _base(named, wanted) as source, contextlib.closing(_target(source)) as target:
        digest, manifest, configuration = _begun(source)
        image = recipe.image(dockerfile, configuration)
        for note in image.notes:
            sdk.say(f"note: {note}")
        blobs = [assembly.blob(entry) for entry in manifest["layers"]]
        below = base_files.BaseFiles(source, blobs, [item.target for item in image.copies]) if source else None
        files = context.copied(image.copies, image.folders, below.is_folder if below else lambda _: False)
        labels = {f"{_LABELS}.base.name": named, f"{_LABELS}.base.digest": digest} if source else {}
        labels |= {f"{_LABELS}.revision": commit} if (commit := sdk.context().commit) else {}
        with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
            packed = Path(scratch) / "layer.tar.gz"
            with packed.open("wb") as file:
                layer = layers.pack_files(files, file) if files else None
            if layer is not None:
                sdk.say(f"{len(files)} files in a layer of {layer.blob.size / 1e6:.1f} MB, in {time.monotonic() - started:.1f} s")
            made = layers.derived(manifest, configuration, image.config, layer, labels, image.author)
            top = [(layer.blob, lambda: packed.open("rb"))] if layer else []
            return assembly.push(source, target, tag, assembly.Built(*made, top))


def _has_plain_bases(dockerfile: syntax.Dockerfile) -> bool:
    """Whether all registries of the bases speak plain HTTP: a program knows only one rule for all."""
    try:
        addresses = {references.parse(base, "a base of the Dockerfile").url(_plain()) for base in stages.bases(dockerfile)}
    except syntax.UnsupportedError:
        return False
    return bool(addresses) and all(address.startswith("http://") for address in addresses)


def _begun(source: registry.Repository | None) -> tuple[str, layers.Document, layers.Document]:
    """Digest, manifest and configuration of the base."""
    if source is None:
        return "", *layers.empty(platform.machine())
    digest, manifest = assembly.manifest_of(source)
    return digest, manifest, source.document(assembly.blob(manifest["config"]))


def _target(base: registry.Repository | None = None) -> registry.Repository:
    """The repository of the image, which can take over layers of a base in the same registry."""
    image = references.parse(sdk.input("image"), "the image of the runnable (FUSEML_IMAGE)")
    scopes = [f"repository:{image.repository}:pull,push"]
    if base is not None and base.image.registry == image.registry:
        scopes.append(_reading(base.image))
    return registry.Repository(image, account=_account(image, image), plain=_plain(), scopes=scopes)


def _reading(image: references.Reference) -> str:
    return f"repository:{image.repository}:pull"


@contextlib.contextmanager
def _base(named: str, target: references.Reference) -> Iterator[registry.Repository | None]:
    """The repository of the base; None for the empty one."""
    if named == stages.SCRATCH:
        yield None
        return
    image = references.parse(named, "the base of the Dockerfile")
    source = registry.Repository(image, account=_account(image, target), plain=_plain(), scopes=[_reading(image)])
    with contextlib.closing(source):
        yield source


def _account(image: references.Reference, target: references.Reference) -> references.Account | None:
    """The account of the project's registry, and for others that of docker's configuration files."""
    user = os.environ.get("REGISTRY_USERNAME", "")
    if user and image.registry == target.registry:
        return references.Account(user, os.environ.get("REGISTRY_PASSWORD", ""))
    return references.account(references.account_files(os.environ), image)


def _plain() -> list[str]:
    """The registries that speak plain HTTP: those of the installation, and that of the project if its URL does."""
    own = urllib.parse.urlsplit(sdk.input("registry-url", ""))
    listed = [name.strip() for name in sdk.input("plain-registries", "").split(",") if name.strip()]
    return [*listed, *([own.netloc.rpartition("@")[2]] if own.scheme == "http" else [])]


if __name__ == "__main__":
    sdk.run(main)
