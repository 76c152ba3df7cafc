"""From an image reference to what can run it on this machine: a built-in implementation, or a container runtime.

The built-in ones are Python modules of `fuseml.steps`, started in an isolated way, so that no file of a codeset can take the place
of a module. `fuseml.local/shell` is no image at all: the step's command or script runs in the host's own shell.
"""

from __future__ import annotations

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

SHELL = "fuseml.local/shell"
TRAINER = "fuseml.local/mlflow-trainer"
BUILDER = "ghcr.io/fuseml/mlflow-builder"
PREDICTOR = "ghcr.io/fuseml/predictor"

RUNTIMES = ("podman", "docker")
_ASK_AGAIN = 30.0
"""Seconds after which a runtime that did not answer is asked again."""
_ANSWER_WITHIN = 10.0
_REFERENCE = re.compile(r"(?P<name>[^@\s]+?)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(?:@(?P<digest>\S+))?")


@dataclass(frozen=True, slots=True)
class Native:
    """A program on the host. `command` is empty where the step has to bring one; `programs` goes first on the PATH."""

    command: tuple[str, ...]
    programs: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A container runtime that can pull and run the image."""

    runtime: str


class Implementations:
    """Finds implementations. `extra` maps image names (then any tag fits) or whole references to commands, before the built-in ones."""

    def __init__(self, extra: Mapping[str, Sequence[str]], environments: Path, environment: Mapping[str, str]) -> None:
        self._extra = {name: tuple(command) for name, command in extra.items()}
        self._environments = environments
        self._environment = environment
        self._guard = threading.Lock()
        self._runtime: str | None = None
        self._asked: float | None = None

    def find(self, image: str) -> Native | Container:
        """What runs `image`. Raises PermanentError that says what to install or to use instead."""
        match = _REFERENCE.fullmatch(image)
        if match is None:
            raise errors.PermanentError(f"{image!r} is not an image reference such as ghcr.io/fuseml/mlflow-builder:v0.1")
        name, tag = match["name"], match["tag"] or ""
        command = self._extra.get(image, self._extra.get(name))
        if command is not None:
            return Native(command)
        match name:
            case _ if name == SHELL:
                return Native(())
            case _ if name == BUILDER:
                return self._module("mlflow_builder", self._caches())
            case _ if name == PREDICTOR:
                return self._module("predictor")
            case _ if name == TRAINER and tag == "host":
                return self._module("mlflow_trainer")
            case _ if name == TRAINER:
                return self._trainer(image, tag)
        runtime = self._find_runtime()
        if runtime is None:
            raise errors.PermanentError(self._advice(image))
        return Container(runtime)

    def _module(self, module: str, environment: Mapping[str, str] | None = None) -> Native:
        # -P: the current folder is the codeset's; a file of it must not be taken for a module.
        command = (sys.executable, "-P", "-m", f"fuseml.steps.{module}")
        return Native(command, Path(sys.executable).parent, {"PYTHONUNBUFFERED": "1", **(environment or {})})

    def _caches(self) -> dict[str, str]:
        # A step's HOME goes away with it; what uv downloads, and the Pythons that environments link to, must stay.
        return {
            "UV_CACHE_DIR": str(self._environments / ".uv" / "cache"),
            "UV_PYTHON_INSTALL_DIR": str(self._environments / ".uv" / "python"),
        }

    def _trainer(self, image: str, key: str) -> Native:
        programs = self._environments / key / "bin"
        if not key or not (programs / "python").exists():
            raise errors.PermanentError(
                f"the environment of image {image!r} is not on this machine (looked for {programs / 'python'}): let a builder step of the same run make it; "
                "where the builder was reused, `fuseml run rerun RUN --no-cache` makes it again"
            )
        # -I: nothing but the environment; the builder has put the trainer into it.
        return Native((str(programs / "python"), "-I", "-m", "fuseml.steps.mlflow_trainer"), programs, {"PYTHONUNBUFFERED": "1"})

    def _find_runtime(self) -> str | None:
        with self._guard:
            if self._runtime is None and (self._asked is None or time.monotonic() - self._asked > _ASK_AGAIN):
                self._runtime = next((path for path in self._installed() if self._answers(path)), None)
                self._asked = time.monotonic()
            return self._runtime

    def _installed(self) -> list[str]:
        found = (shutil.which(name, path=self._environment.get("PATH", "")) for name in RUNTIMES)
        return [path for path in found if path]

    def _answers(self, path: str) -> bool:
        # `version` also asks the server (docker's daemon, podman's machine) and fails when that is silent.
        try:
            asked = subprocess.run(
                [path, "version"],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_ANSWER_WITHIN,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return asked.returncode == 0

    def _advice(self, image: str) -> str:
        silent = [Path(path).name for path in self._installed()]
        way = f"start {' or '.join(silent)} (it is installed but does not answer)" if silent else "install podman or docker"
        known = ", ".join([BUILDER, PREDICTOR, f"{TRAINER}:host", SHELL, *sorted(self._extra)])
        return f"nothing on this machine can run the image {image!r}: {way}, or use an image with a built-in implementation ({known})"
