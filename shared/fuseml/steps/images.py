"""Builds an image without a container runtime: a base and one layer on top. For an environment the base is the trainer's image.

The layer is the folder `/opt/fuseml`: the environment, first on the PATH with its own `run`, and a Python of its own where the codeset needs
another version than the image has. It is built elsewhere: it is relocatable, and the few absolute paths in it are rewritten.
The tag of an image is its content key, so an existing image is not built again. The manifest is pushed last, so no incomplete image
is visible.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.steps import assembly, environments, layers, needs, references, registry, sdk
from fuseml.steps.dependencies import requirements

PLACE = "/opt/fuseml"
ENVIRONMENT = "environment"
PROGRAMS = f"{PLACE}/{ENVIRONMENT}/bin"
"""The folder of the programs of the layer, first on the PATH of the image."""
_PYTHON = "python"


@dataclass(frozen=True)
class Addition:
    """A layer: its `subject` for the log, its content `key` by the digest of the base, and `fill`, which writes its folder.

    `fill` receives the configuration of the base, and raises StepError for a base that does not fit. `variables` are set in the image.
    """

    subject: str
    key: Callable[[str], str]
    fill: Callable[[Path, layers.Document], None]
    variables: Mapping[str, str] = field(default_factory=dict)


def make(spec: requirements.Environment, build: environments.Build, base: str, repository: str, *, plain: Sequence[str] = ()) -> str:
    """The image of the environment on top of `base`, by its digest. Builds it and pushes it to `repository` unless it exists.

    `plain` are the registries that speak plain HTTP. Raises StepError.
    """

    def fill(root: Path, configuration: layers.Document) -> None:
        _check_python(spec, configuration, base)
        _fill(root, spec, build)

    addition = Addition(f"the environment of {spec.source}", lambda digest: build.key(spec, base=digest), fill)
    return add(addition, (base, "the trainer's image (FUSEML_TRAINER_IMAGE)"), repository, plain=plain)


def add(addition: Addition, base: tuple[str, str], repository: str, *, plain: Sequence[str] = ()) -> str:
    """The image of `base` with the layer on top, by its digest. Builds it and pushes it to `repository` unless it exists.

    `base` is a name and its subject in errors. `plain` are the registries that speak plain HTTP. Raises StepError.
    """
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(contextlib.closing(one)) for one in _repositories(*base, repository, plain))
        return _image(addition, source, target)


def _image(addition: Addition, source: registry.Repository, target: registry.Repository) -> str:
    digest, manifest = assembly.manifest_of(source)
    key = addition.key(digest)
    existing = target.find(key)
    if existing is not None:
        sdk.say(f"image {target.image.name}:{key} exists; nothing to build")
        return f"{target.image.name}@{existing}"
    configuration = source.document(assembly.blob(manifest["config"]))
    with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
        root, packed = Path(scratch).resolve() / "root", Path(scratch) / "layer.tar.gz"
        started = time.monotonic()
        root.mkdir()
        addition.fill(root, configuration)
        with packed.open("wb") as file:
            layer = layers.pack(root, PLACE, file)
        spent = f"{time.monotonic() - started:.1f} s, a layer of {layer.blob.size / 1e6:.1f} MB"
        sdk.say(f"{addition.subject}: {key} built in {spent}")
        labels = {"org.opencontainers.image.base.name": source.image.name, "org.opencontainers.image.base.digest": digest}
        image = layers.appended(manifest, configuration, layer, PROGRAMS, labels, addition.variables)
        built = assembly.Built(*image, [(layer.blob, lambda: packed.open("rb"))])
        return f"{target.image.name}@{assembly.push(source, target, key, built)}"


def _repositories(base: str, subject: str, repository: str, plain: Sequence[str]) -> tuple[registry.Repository, registry.Repository]:
    """The repositories of the base and of the image, each with its account and its scopes."""
    below = references.parse(base, subject)
    above = references.parse(repository, "the repository for images (FUSEML_IMAGE_REPOSITORY)")
    if above.version:
        raise sdk.StepError(f"FUSEML_IMAGE_REPOSITORY is '{repository}': remove the tag; each image is tagged with its content key")
    files = references.account_files(os.environ)
    reading, writing = f"repository:{below.repository}:pull", f"repository:{above.repository}:pull,push"
    source = registry.Repository(below, account=references.account(files, below), plain=plain, scopes=[reading])
    scopes = [writing, reading] if below.registry == above.registry else [writing]
    return source, registry.Repository(above, account=references.account(files, above), plain=plain, scopes=scopes)


def _check_python(spec: requirements.Environment, configuration: layers.Document, base: str) -> None:
    """Compare this process's Python with the image's, which an environment without its own Python runs on. Docker's images name theirs."""
    variables = dict(variable.partition("=")[::2] for variable in (configuration.get("config") or {}).get("Env") or [])
    base_version, version = variables.get("PYTHON_VERSION"), platform.python_version()
    if environments.fits(spec) and base_version and base_version.split(".")[:2] != version.split(".")[:2]:
        raise sdk.StepError(
            f"the image {base} has Python {base_version} and this builder {version}: FUSEML_TRAINER_IMAGE and the builder's image must match"
        )


def _fill(root: Path, spec: requirements.Environment, build: environments.Build) -> None:
    """Build the folder of the layer."""
    environment = root / ENVIRONMENT
    settings = {"UV_CACHE_DIR": str(root.with_name("cache")), "UV_PYTHON_INSTALL_DIR": str(root / _PYTHON)}
    if not environments.fits(spec):
        settings["UV_PYTHON_PREFERENCE"] = "only-managed"  # a Python of this machine would be missing in the image
    environments.build(spec, dataclasses.replace(build, settings=settings), environment)
    configuration = environment / "pyvenv.cfg"
    configuration.write_text(configuration.read_text(encoding="utf-8").replace(str(root), PLACE), encoding="utf-8")
    for packages in ("lib/python*/site-packages", needs.SERVER_FOLDER):
        for stamp in environment.glob(f"{packages}/*.dist-info/uv_cache.json"):  # holds a timestamp
            stamp.unlink()
    _compile(root)


def _compile(root: Path) -> None:
    """Compile the modules, because pods cannot write into the image. Equal sources give equal bytes."""
    folders = [path for path in (root / ENVIRONMENT / "lib", root / ENVIRONMENT / needs.SERVER_FOLDER, root / _PYTHON) if path.is_dir()]
    program = [str(root / ENVIRONMENT / "bin" / "python"), "-m", "compileall", "-qq", "-f", "--invalidation-mode", "unchecked-hash"]
    paths = ["-s", str(root), "-p", PLACE, *map(str, folders)]
    # Packages may hold files that are not valid Python; a file that cannot be compiled is not imported either.
    subprocess.run([*program, *paths], cwd=root, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False)
