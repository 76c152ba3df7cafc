"""Builder step (`ghcr.io/fuseml/mlflow-builder`): builds the environment that the codeset asks for, and outputs its reference.

Inputs, all optional: FUSEML_DEPENDENCIES (the file that describes the environment; else `dependencies.discovery` finds it), FUSEML_EXTRAS and
FUSEML_GROUPS (names, separated by commas), FUSEML_ENTRYPOINT (as for the trainer: a notebook
needs papermill, a pipeline needs DVC), FUSEML_ACCELERATOR (`accelerators`), FUSEML_INDEX_URL (package index; `none` for none),
FUSEML_FIND_LINKS (a folder or page of wheels). The engine sets the place of environments: a local engine FUSEML_ENVIRONMENTS, a folder, and
FUSEML_ENVIRONMENTS_PREFIX of their names; on a cluster FUSEML_TRAINER_IMAGE, an image with the same environment as this step's own,
FUSEML_IMAGE_REPOSITORY for images with other environments, and FUSEML_PLAIN_REGISTRIES, registries that speak plain HTTP. Output `image`:

- the trainer's image (`fuseml.local/mlflow-trainer:host` on a local engine), if this step's own environment satisfies the file, or no file
  describes an environment;
- on a cluster, the image that MLproject names in `docker_env`, with the steps on top;
- else `fuseml.local/mlflow-trainer:<prefix><key>`, an environment at $FUSEML_ENVIRONMENTS/<key>, or an image with it, by its digest.

With FUSEML_RUNNABLES (`true`), the output `runnables` describes the trainer and the predictor of the codeset in this environment
(`made_runnables`), for FuseML to register.

The key is derived from the content, so an unchanged file builds nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from fuseml.steps import environments, made_runnables, mlproject, sdk, training, uv
from fuseml.steps.dependencies import checkout, discovery, requirements, satisfaction

REPOSITORY = "fuseml.local/mlflow-trainer"
# Inputs of the original builder about images; a workflow that was written for it still runs.
_IMAGE_INPUTS = ("miniconda-version", "intel-optimized", "base-image", "compressed-caching")


def main() -> None:
    """Build the environment of the codeset in the current folder, or reuse an existing one."""
    for name in _IMAGE_INPUTS:
        if sdk.input(name, "") not in ("", "false"):
            sdk.say(f"note: the input '{name}' has no effect: this builder needs no container images")
    trainer, build = sdk.input("trainer-image", ""), _build()
    # An environment of conda cannot move to another path, as in an image.
    micromamba = not trainer and shutil.which("micromamba") is not None
    docker = _docker(build.checkout) if trainer and not sdk.input("dependencies", "") else None
    if docker:
        from fuseml.steps import docker_image

        discovery.expect_no_parts("the image of docker_env", extras=_names("extras"), groups=_names("groups"))
        if needed := training.requirements(build.checkout):
            sdk.say(
                f"note: the codeset's program needs {', '.join(needed)}: nothing is added to an image of docker_env, so it must have it"
            )
        _report(docker_image.make(docker, _repository(f"the training runs in the image {docker.image}"), plain=_plain()))
        return
    choices = discovery.Choices(sdk.input("dependencies", ""), micromamba, _names("extras"), _names("groups"))
    spec = discovery.environment(checkout.Folder(build.checkout), choices, _export)
    spec = requirements.added(spec, training.requirements(build.checkout), "which the codeset's program needs")
    _report(_image_of(spec, build, trainer))


def _report(image: str) -> None:
    sdk.output("image", image)
    sdk.output(sdk.first_output("image"), image)
    if sdk.input("runnables", "") == "true":
        sdk.output("runnables", made_runnables.of(Path.cwd(), image))
    sdk.say(f"image: {image}")


def _docker(folder: Path) -> mlproject.Docker | None:
    """The image that the codeset's MLproject names."""
    name = mlproject.file_name(path.name for path in folder.iterdir())
    docker = mlproject.parse(sdk.read_file(folder, name), name).docker if name else None
    if docker:
        sdk.say(f"{name}: docker_env: the training runs in the image {docker.image}, with FuseML's steps on top")
    return docker


def _repository(reason: str) -> str:
    """The repository for new images. Raises StepError without one."""
    repository = sdk.input("image-repository", "")
    if not repository:
        raise sdk.StepError(
            f"{reason}, and no repository for a new image is configured: "
            "set FUSEML_IMAGE_REPOSITORY of the installation (task deploy -- --image-repository registry.example.com/team/environments)"
        )
    return repository


def _plain() -> list[str]:
    return [name.strip() for name in sdk.input("plain-registries", "").split(",") if name.strip()]


def _names(name: str) -> tuple[str, ...]:
    return tuple(sorted(set(re.split(r"[\s,]+", sdk.input(name, "").strip())) - {""}))


def _build() -> environments.Build:
    links = sdk.input("find-links", "")
    if links and "://" not in links:
        links = str(Path(links).absolute())
    return environments.Build(Path.cwd(), sdk.input("index-url", ""), links, sdk.input("accelerator", ""))


def _export(folder: Path, arguments: Sequence[str]) -> str:
    return uv.Uv(folder).output(["export", *arguments], "cannot read uv.lock")


def _image_of(spec: requirements.Environment, build: environments.Build, trainer: str) -> str:
    for note in spec.notes:
        sdk.say(f"note: {note}")
    unmet = satisfaction.unmet(spec, platform.python_version(), _installed)
    if not unmet:
        _log_versions(spec)
        return trainer or f"{REPOSITORY}:host"
    repository = _repository(f"the image {trainer} lacks {', '.join(unmet)}") if trainer else ""
    sdk.say(f"the running environment lacks {', '.join(unmet)}")
    if not trainer:
        return f"{REPOSITORY}:{sdk.input('environments-prefix', '')}{_built(spec, build)}"
    from fuseml.steps import images

    return images.make(spec, build, trainer, repository, plain=_plain())


def _log_versions(spec: requirements.Environment) -> None:
    versions = [f"{name} {installed[0]}" for name in sorted(spec.names()) if (installed := _installed(name))]
    sdk.say(
        f"the running environment already satisfies {spec.source}: Python {platform.python_version()}{''.join(', ' + text for text in versions)}"
    )


def _installed(name: str) -> tuple[str, list[str]] | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return distribution.version, list(distribution.requires or [])


def _built(spec: requirements.Environment, build: environments.Build) -> str:
    folder = os.environ.get("FUSEML_ENVIRONMENTS", "")
    if not folder:
        raise sdk.StepError("FUSEML_ENVIRONMENTS is not set: the engine must set it to the folder of environments")
    key, started = build.key(spec), time.monotonic()
    if environments.make(spec, build, Path(folder).absolute() / key):
        sdk.say(f"environment {key} built in {time.monotonic() - started:.1f} s")
    else:
        sdk.say(f"environment {key} exists; nothing to build")
    return key


if __name__ == "__main__":
    sdk.run(main)
