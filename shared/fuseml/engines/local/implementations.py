"""Implementations of images on this machine: a built-in module, or a container runtime.

Built-in implementations are modules of `fuseml.steps` and `fuseml.workloads`. They start isolated, so that no file of a codeset can shadow a module.
`fuseml.local/shell` is not an image: the step's command or script runs in the shell of the host.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.domain import errors
from fuseml.domain.plans import image_building
from fuseml.domain.workflows import original_steps

SHELL = "fuseml.local/shell"
TRAINER = "fuseml.local/mlflow-trainer"
BUILDER = "ghcr.io/fuseml/mlflow-builder"
PREDICTOR = "ghcr.io/fuseml/predictor"
SCORER = "ghcr.io/fuseml/scorer"
EVALUATOR = "ghcr.io/fuseml/evaluator"
RANKER = "ghcr.io/fuseml/ranker"
WORKLOAD = "ghcr.io/fuseml/workload"
ELSEWHERE = "ghcr.io/fuseml/trainer"
IMAGE_BUILDER = image_building.BUILDER.partition(":")[0]

RUNTIMES = ("podman", "docker")
BUILDERS = ("podman", "buildah")
"""Programs that build images from any Dockerfile, without a daemon."""
_PROBE_INTERVAL = 30.0
"""Seconds between two probes of the installed runtimes while none responds."""
_PROBE_TIMEOUT = 10.0
_REFERENCE = re.compile(r"(?P<name>[^@\s]+?)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(?:@(?P<digest>\S+))?")


@dataclass(frozen=True, slots=True)
class Native:
    """A program on the host. `command` is empty when the step must declare one; `programs` is prepended to PATH.

    Confined, it may use `reads` and `writes` beside its step's folders. `starts_builder`: it starts a program that builds images, which uses
    files of its own as a container runtime does.
    """

    command: tuple[str, ...]
    programs: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    starts_builder: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container runtime that can pull and run images."""

    runtime: str


def environment_folder(environments: Path, tag: str) -> Path:
    """The folder of the environment that a builder named `tag`: PROJECT.KEY, or only KEY in versions before 0.2."""
    project, _, key = tag.rpartition(".")
    return environments / project / key


class Implementations:
    """Resolves image references. `extra` maps image names (any tag) or whole references to commands; it takes precedence over the built-ins."""

    def __init__(self, extra: Mapping[str, Sequence[str]], environments: Path, environment: Mapping[str, str]) -> None:
        self._extra = {name: tuple(command) for name, command in extra.items()}
        self._environments = environments
        self._environment = environment
        self._guard = threading.Lock()
        self._runtime: str | None = None
        self._probed: float | None = None

    def find(self, image: str, project: str) -> Native | Container:
        """The implementation of `image` for a step of `project`. Raises PermanentError with a remedy when there is none."""
        match = _REFERENCE.fullmatch(image)
        if match is None:
            raise errors.PermanentError(f"{image!r} is not an image reference; an example: ghcr.io/fuseml/mlflow-builder:v0.1")
        name, tag = match["name"], match["tag"] or ""
        command = self._extra.get(image, self._extra.get(name))
        if command is not None:
            return Native(command)
        match name:
            case _ if name == SHELL:
                return Native(())
            case _ if name == BUILDER:
                return self._builder(project)
            case _ if name in (PREDICTOR, SCORER, EVALUATOR, RANKER, WORKLOAD):
                return self._module(name.rpartition("/")[2])
            case _ if name == ELSEWHERE:
                return self._module("trainer", package="fuseml.workloads")
            case _ if name == IMAGE_BUILDER:
                return self._image_builder()
            case _ if name == TRAINER and tag == "host":
                return self._module("mlflow_trainer")
            case _ if name == TRAINER:
                return self._trainer(image, tag, project)
        runtime = self._find_runtime()
        if runtime is None:
            raise errors.PermanentError(self._advice(image))
        return Container(runtime)

    def _module(self, module: str, environment: Mapping[str, str] | None = None, *writes: Path, package: str = "fuseml.steps") -> Native:
        # -P: the current folder is the codeset's; its files must not shadow modules.
        command = (sys.executable, "-P", "-m", f"{package}.{module}")
        return Native(command, Path(sys.executable).parent, {"PYTHONUNBUFFERED": "1", **(environment or {})}, writes=writes)

    def _builder(self, project: str) -> Native:
        # A builder runs code of packages, so it writes to nothing that another project uses.
        folder = self._environments / project
        variables = {
            "FUSEML_ENVIRONMENTS": str(folder),
            "FUSEML_ENVIRONMENTS_PREFIX": f"{project}.",
            # A step's HOME is temporary; uv's downloads, and the Pythons that environments link to, must outlive it.
            "UV_CACHE_DIR": str(folder / ".uv" / "cache"),
            "UV_PYTHON_INSTALL_DIR": str(folder / ".uv" / "python"),
        }
        return self._module("mlflow_builder", variables, folder)

    def _image_builder(self) -> Native:
        program = next(filter(None, (shutil.which(name, path=self._environment.get("PATH", "")) for name in BUILDERS)), None)
        if program is None:
            return self._module("image_builder")
        # Its storage is in the home of the user, and may hold files of other users, which a step's folder must not.
        variables = {"FUSEML_BUILD_PROGRAM": program, "FUSEML_BUILD_HOME": self._environment.get("HOME", "")}
        return dataclasses.replace(self._module("image_builder", variables), starts_builder=True)

    def _trainer(self, image: str, tag: str, project: str) -> Native:
        if "." in tag and tag.rpartition(".")[0] != project:
            raise errors.PermanentError(
                f"the environment of image {image!r} belongs to another project; build one in a step of the same run"
            )
        environment = environment_folder(self._environments, tag)
        programs = environment / "bin"
        if not tag or not (programs / "python").exists():
            raise errors.PermanentError(
                f"the environment of image {image!r} is not on this machine ({programs / 'python'} is missing): build it in a step of the same run; "
                "if the builder step was reused, run `fuseml run rerun RUN --no-cache`"
            )
        os.utime(environment)  # the removal of environments begins with the least recently used ones
        # -I: only the environment; the builder has installed the trainer there.
        command = (str(programs / "python"), "-I", "-m", "fuseml.steps.mlflow_trainer")
        reads = (environment, environment.parent / ".uv" / "python")
        return Native(command, programs, {"PYTHONUNBUFFERED": "1"}, reads)

    def _find_runtime(self) -> str | None:
        with self._guard:
            if self._runtime is None and (self._probed is None or time.monotonic() - self._probed > _PROBE_INTERVAL):
                self._runtime = next((path for path in self._installed() if self._responds(path)), None)
                self._probed = time.monotonic()
            return self._runtime

    def _installed(self) -> list[str]:
        paths = (shutil.which(name, path=self._environment.get("PATH", "")) for name in RUNTIMES)
        return [path for path in paths if path]

    def _responds(self, path: str) -> bool:
        # `version` also contacts the server (docker's daemon, podman's machine) and fails when it does not respond.
        try:
            result = subprocess.run(
                [path, "version"],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return result.returncode == 0

    def _advice(self, image: str) -> str:
        unresponsive = [Path(path).name for path in self._installed()]
        remedy = f"start {' or '.join(unresponsive)} (installed, but not responding)" if unresponsive else "install podman or docker"
        original = original_steps.advice(image)
        if original:
            return f"this machine cannot run the image {image!r}: {remedy}; {original}"
        supported = ", ".join(
            [BUILDER, PREDICTOR, SCORER, EVALUATOR, RANKER, WORKLOAD, ELSEWHERE, f"{TRAINER}:host", SHELL, *sorted(self._extra)]
        )
        return f"this machine cannot run the image {image!r}: {remedy}, or use an image with a built-in implementation ({supported})"
