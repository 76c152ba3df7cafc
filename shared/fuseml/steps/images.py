"""Makes an image that holds an environment, without a container runtime: the trainer's image and one layer on top.

The layer is a folder, `/opt/fuseml`, with the environment, which goes first on the PATH and brings its own `run`, and a Python of its own where
the codeset asks for another than the image has. It was made somewhere else: it is relocatable, and the few absolute paths in it are rewritten.
An image is known by the key of its content, which is its tag: what is there is not made again. Its manifest comes last, so that it
appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fuseml.steps import environments, layers, references, registry, requirements, sdk

PLACE = "/opt/fuseml"
_ENVIRONMENT, _PYTHON = "environment", "python"


def make(
    wanted: requirements.Environment, base: str, repository: str, *, plain: Sequence[str] = (), index: str = "", find_links: str = ""
) -> str:
    """The image with `wanted`, made from the image `base` and pushed to `repository` if it is not there, by its digest.

    `plain` are the registries that speak plain HTTP; `index` and `find_links` are those of `environments.make`. Raises StepError.
    """
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(contextlib.closing(one)) for one in _opened(base, repository, plain))
        return _made(wanted, source, target, index, find_links)


def _made(wanted: requirements.Environment, source: registry.Repository, target: registry.Repository, index: str, find_links: str) -> str:
    digest, manifest = _manifest(source)
    key = wanted.key(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        base=digest,
        index=index,
        links=find_links,
        steps=environments.own_content(),
    )
    found = target.find(key)
    if found is not None:
        sdk.say(f"image {target.image.name}:{key} is there already; nothing to build")
        return f"{target.image.name}@{found}"
    configuration = source.document(_blob(manifest["config"]))
    _check_python(wanted, configuration, source.image.name)
    with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
        root, packed = Path(scratch).resolve() / "root", Path(scratch) / "layer.tar.gz"
        started = time.monotonic()
        _fill(root, wanted, index, find_links)
        with packed.open("wb") as file:
            layer = layers.pack(root, PLACE, file)
        sdk.say(f"environment {key} made in {time.monotonic() - started:.1f} s, a layer of {layer.blob.size / 1e6:.1f} MB")
        labels = {"org.opencontainers.image.base.name": source.image.name, "org.opencontainers.image.base.digest": digest}
        made = layers.appended(manifest, configuration, layer, f"{PLACE}/{_ENVIRONMENT}/bin", labels)
        return f"{target.image.name}@{_pushed(source, target, key, *made, layer.blob, packed)}"


def _pushed(
    source: registry.Repository,
    target: registry.Repository,
    tag: str,
    manifest: layers.Document,
    configuration: bytes,
    top: layers.Blob,
    packed: Path,
) -> str:
    """The digest of the image, once all that it names is there."""
    started = time.monotonic()
    origin = source.image.repository if source.image.registry == target.image.registry else ""
    *below, _ = [_blob(entry) for entry in manifest["layers"]]
    sent = [blob for blob in below if target.push(blob, functools.partial(source.open, blob), origin)]
    target.push(top, lambda: packed.open("rb"))
    target.push_bytes(configuration)
    digest = target.tag(tag, manifest)
    copied = f", {sum(blob.size for blob in sent) / 1e6:.1f} MB of it copied from {source.image.name}" if sent else ""
    sdk.say(f"image {target.image.name}:{tag} pushed in {time.monotonic() - started:.1f} s{copied}")
    return digest


def _opened(base: str, repository: str, plain: Sequence[str]) -> tuple[registry.Repository, registry.Repository]:
    """Where the base is read and where the image goes, each with its account and the rights that it takes."""
    below = references.parse(base, "the trainer's image (FUSEML_TRAINER_IMAGE)")
    above = references.parse(repository, "the repository for images (FUSEML_IMAGE_REPOSITORY)")
    if above.version:
        raise sdk.StepError(f"FUSEML_IMAGE_REPOSITORY is '{repository}': leave out the tag, which says what is in an image")
    files = references.places(os.environ)
    reading, writing = f"repository:{below.repository}:pull", f"repository:{above.repository}:pull,push"
    source = registry.Repository(below, account=references.account(files, below), plain=plain, scopes=[reading])
    scopes = [writing, reading] if below.registry == above.registry else [writing]
    return source, registry.Repository(above, account=references.account(files, above), plain=plain, scopes=scopes)


def _manifest(source: registry.Repository) -> tuple[str, layers.Document]:
    """Of an index, the manifest for this machine."""
    digest, found = source.manifest(source.image.version or "latest")
    if found["mediaType"] in (layers.OCI_INDEX, layers.DOCKER_LIST):
        digest, found = source.manifest(layers.platform_manifest(found, platform.machine(), source.image.name))
    if found["mediaType"] not in (layers.OCI_MANIFEST, layers.DOCKER_MANIFEST):
        raise sdk.StepError(f"{source.image.name} is no image that a layer can be put on: its manifest is of the type {found['mediaType']}")
    return digest, found


def _blob(described: layers.Document) -> layers.Blob:
    return layers.Blob(described["digest"], described["size"])


def _check_python(wanted: requirements.Environment, configuration: layers.Document, base: str) -> None:
    """An environment with this process's Python stands on that of the image, which says its version where it is made from Docker's own."""
    variables = dict(variable.partition("=")[::2] for variable in (configuration.get("config") or {}).get("Env") or [])
    there, here = variables.get("PYTHON_VERSION"), platform.python_version()
    if environments.fits(wanted) and there and there.split(".")[:2] != here.split(".")[:2]:
        raise sdk.StepError(
            f"the image {base} has Python {there} and this builder {here}: FUSEML_TRAINER_IMAGE and the builder's image must be of one make"
        )


def _fill(root: Path, wanted: requirements.Environment, index: str, find_links: str) -> None:
    """Make the folder that becomes the layer."""
    root.mkdir()
    environment = root / _ENVIRONMENT
    settings = {"UV_CACHE_DIR": str(root.with_name("cache")), "UV_PYTHON_INSTALL_DIR": str(root / _PYTHON)}
    if not environments.fits(wanted):
        settings["UV_PYTHON_PREFERENCE"] = "only-managed"  # another one of this machine would not be in the image
    environments.build(wanted, environment, index=index, find_links=find_links, settings=settings)
    configuration = environment / "pyvenv.cfg"
    configuration.write_text(configuration.read_text(encoding="utf-8").replace(str(root), PLACE), encoding="utf-8")
    for name in ("requirements.txt", "constraints.txt"):  # the addresses in them may hold passwords
        (environment / name).unlink(missing_ok=True)
    for stamp in environment.glob("lib/python*/site-packages/*.dist-info/uv_cache.json"):  # holds a time
        stamp.unlink()
    _compile(root)


def _compile(root: Path) -> None:
    """Now, because whoever runs in the image cannot keep what it compiles. The same sources always give the same bytes."""
    kept = [path for path in (root / _ENVIRONMENT / "lib", root / _PYTHON) if path.is_dir()]
    program = [str(root / _ENVIRONMENT / "bin" / "python"), "-m", "compileall", "-qq", "-f", "--invalidation-mode", "unchecked-hash"]
    paths = ["-s", str(root), "-p", PLACE, *map(str, kept)]
    # Packages may hold files that are no Python; what cannot be compiled is not imported either.
    subprocess.run([*program, *paths], cwd=root, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False)
