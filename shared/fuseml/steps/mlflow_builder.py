"""Builder step (`ghcr.io/fuseml/mlflow-builder`): builds the environment of the codeset's dependency file, and outputs its reference.

Inputs, all optional: FUSEML_INDEX_URL (package index; `none` for none), FUSEML_FIND_LINKS (a folder or page of wheels), FUSEML_ENTRYPOINT (as
for the trainer: a notebook needs papermill, a pipeline needs DVC). The engine sets the place of environments: a local engine FUSEML_ENVIRONMENTS, a folder, and FUSEML_ENVIRONMENTS_PREFIX of their names; on a cluster
FUSEML_TRAINER_IMAGE, an image with the same environment as this step's own, FUSEML_IMAGE_REPOSITORY for images with other environments, and
FUSEML_PLAIN_REGISTRIES, registries that speak plain HTTP. Output `image`:

- the trainer's image (`fuseml.local/mlflow-trainer:host` on a local engine), if this step's own environment satisfies the file;
- else `fuseml.local/mlflow-trainer:<prefix><key>`, an environment at $FUSEML_ENVIRONMENTS/<key>, or an image with it, by its digest.

The key is derived from the content, so an unchanged file builds nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

import packaging.requirements

from fuseml.steps import environments, mlproject, requirements, sdk, training

REPOSITORY = "fuseml.local/mlflow-trainer"
# The original builder's order, with MLflow's newer file in between.
_FILES = ("conda.yaml", "python_env.yaml", "requirements.txt")
# Inputs of the original builder about images; a workflow that was written for it still runs.
_IMAGE_INPUTS = ("miniconda-version", "intel-optimized", "base-image", "compressed-caching")


def main() -> None:
    """Build the environment of the codeset in the current folder, or reuse an existing one."""
    checkout = Path.cwd()
    for name in _IMAGE_INPUTS:
        if sdk.input(name, "") not in ("", "false"):
            sdk.say(f"note: the input '{name}' has no effect: this builder needs no container images")
    spec = training.completed(environment_of(checkout), checkout)
    for note in spec.notes:
        sdk.say(f"note: {note}")
    image = _image_of(spec)
    sdk.output("image", image)
    sdk.output(sdk.first_output("image"), image)
    sdk.say(f"image: {image}")


def environment_of(checkout: Path) -> requirements.Environment:
    """The environment of the file that the codeset's MLproject names, else of the first usual one. Raises StepError naming the file."""

    def read(name: str) -> str:
        return sdk.read_file(checkout, name)

    project_file = mlproject.file_name(file.name for file in checkout.iterdir())
    project = mlproject.parse(read(project_file), project_file) if project_file else mlproject.Project({})
    if project.docker_image:
        raise sdk.StepError(
            f"{project_file}: docker_env: the image {project.docker_image} needs no build: use it as the trainer step's image and remove the builder"
        )
    named = project.python_env or project.conda_env
    for name in [named] if named else _FILES:
        if named or (checkout / name).is_file():
            sdk.say(f"dependencies: {name}")
            return requirements.parse(name, read(name), read)
    raise sdk.StepError(
        f"no dependency file in {checkout.name}: add one of {', '.join(_FILES)}, or name one in MLproject as python_env or conda_env"
    )


def _image_of(spec: requirements.Environment) -> str:
    unmet = requirements.unmet(spec, platform.python_version(), _installed)
    trainer, repository = sdk.input("trainer-image", ""), sdk.input("image-repository", "")
    if not unmet:
        _log_versions(spec)
        return trainer or f"{REPOSITORY}:host"
    if trainer and not repository:
        raise sdk.StepError(
            f"the image {trainer} lacks {', '.join(unmet)}, and no repository for a new image is configured: "
            "set FUSEML_IMAGE_REPOSITORY of the installation (task deploy -- --image-repository registry.example.com/team/environments)"
        )
    sdk.say(f"the running environment lacks {', '.join(unmet)}")
    index, links = sdk.input("index-url", ""), sdk.input("find-links", "")
    if links and "://" not in links:
        links = str(Path(links).absolute())
    if not trainer:
        return f"{REPOSITORY}:{sdk.input('environments-prefix', '')}{_built(spec, index, links)}"
    from fuseml.steps import images

    plain = [name.strip() for name in sdk.input("plain-registries", "").split(",") if name.strip()]
    return images.make(spec, trainer, repository, plain=plain, index=index, find_links=links)


def _log_versions(spec: requirements.Environment) -> None:
    names = sorted({packaging.requirements.Requirement(line.partition(" --hash")[0]).name for line in spec.requirements})
    versions = [f"{name} {installed[0]}" for name in names if (installed := _installed(name))]
    sdk.say(
        f"the running environment already satisfies {spec.source}: Python {platform.python_version()}{''.join(', ' + text for text in versions)}"
    )


def _installed(name: str) -> tuple[str, list[str]] | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return distribution.version, list(distribution.requires or [])


def _built(spec: requirements.Environment, index: str, links: str) -> str:
    folder = os.environ.get("FUSEML_ENVIRONMENTS", "")
    if not folder:
        raise sdk.StepError("FUSEML_ENVIRONMENTS is not set: the engine must set it to the folder of environments")
    key = spec.key(python=f"{sys.version_info.major}.{sys.version_info.minor}", index=index, links=links, steps=environments.own_content())
    started = time.monotonic()
    if environments.make(spec, Path(folder).absolute() / key, index=index, find_links=links):
        sdk.say(f"environment {key} built in {time.monotonic() - started:.1f} s")
    else:
        sdk.say(f"environment {key} exists; nothing to build")
    return key


if __name__ == "__main__":
    sdk.run(main)
