"""Builds environments in a folder that all runs of a project share, one subfolder for each content key.

An environment is built under another name and renamed, and its file `bin/run` is written last, so one with that file is complete. A file lock
serialises the builders of the same environment; the system releases it however a builder ends. The environment is relocatable and carries the
trainer and the model server (`carried`): `bin/run` is the trainer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import packaging.specifiers
import packaging.utils

from fuseml.steps import accelerators, bytecode, carried, needs, occupancy, sdk, uv
from fuseml.steps.dependencies import pythons, requirements

# -I keeps the modules of the checkout from shadowing those of the environment.
_RUN = """#!/bin/sh
exec "$(dirname "$0")/python" -I -m fuseml.steps.mlflow_trainer "$@"
"""
_HOLD = "import fuseml.steps.occupancy\n"


@dataclass(frozen=True)
class Build:
    """The inputs of a build beside the environment: the checkout, and where packages come from.

    `index` is the URL of a package index, `none` for none, empty for uv's own setting; `find_links` a folder or page of wheels;
    `accelerator` a value of `accelerators.backend`; `settings` are variables for uv.
    """

    checkout: Path
    index: str = ""
    find_links: str = ""
    accelerator: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def backend(self, spec: requirements.Environment) -> str:
        """The builds of accelerator libraries for the environment."""
        return accelerators.backend(self.accelerator or spec.accelerator, self.index, os.environ)

    def key(self, spec: requirements.Environment, **inputs: str) -> str:
        """The content key of the environment from this build."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        carries = {"steps": carried.content(), "accelerator": self.backend(spec)}
        return spec.key(python=python, index=self.index, links=self.find_links, **carries, **inputs)


def make(spec: requirements.Environment, build_: Build, folder: Path) -> bool:
    """Build the environment at `folder` unless it exists. Returns whether it was built; an existing one counts as used now.

    Raises StepError with the last lines of a failed installer, and leaves no folder behind.
    """
    if is_complete(folder):
        os.utime(folder)
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if is_complete(folder):
            sdk.say("another builder has just built this environment")
            return False
        # An environment of conda holds its own path in many files, so it is not renamed.
        place = folder if spec.conda and spec.locked else folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(place, ignore_errors=True)  # of a killed builder: the lock excludes a running one
        try:
            build(spec, build_, place, imports=True)
            if place != folder:
                place.replace(folder)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return True


def is_complete(folder: Path) -> bool:
    """Whether an environment is complete; its `bin/run` is written last."""
    return (folder / "bin" / "run").is_file()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sdk.say("waiting for another builder of this environment")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fits(spec: requirements.Environment) -> bool:
    """Whether the running Python satisfies the Python version of the environment."""
    return not (spec.conda and spec.locked) and packaging.specifiers.SpecifierSet(spec.python).contains(
        platform.python_version(), prereleases=True
    )


def build(spec: requirements.Environment, build_: Build, folder: Path, *, imports: bool = False) -> None:
    """Build the environment at `folder`, which is incomplete after a failure; with the bytecode of what steps import. Raises StepError."""
    work = build_.checkout / spec.folder
    installer = uv.Uv(work, build_.index, build_.find_links, build_.settings)
    with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
        one = _Construction(spec, installer, folder, Path(scratch), build_.backend(spec))
        one.create()
        one.install()
        one.add_setuptools()
        one.add_server()
        one.add_steps()
        one.check()
        if imports:
            bytecode.write(one.python, build_.checkout)
        one.complete()


@dataclass(frozen=True)
class _Construction:
    spec: requirements.Environment
    uv: uv.Uv
    folder: Path
    scratch: Path
    backend: str

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def packages(self) -> Path:
        # A set: conda's `python3.1` is a link to its `python3.11`.
        [found] = {path.resolve() for path in (self.folder / "lib").glob("python3*/site-packages")}
        return found

    def create(self) -> None:
        """An empty environment with the Python that the codeset asks for; with micromamba, all packages of conda too."""
        if self.spec.conda and self.spec.locked:
            self._create_by_micromamba()
            return
        own, wanted = fits(self.spec), self.spec.python
        sdk.say(f"building an environment with Python {platform.python_version() if own else wanted} for {self.spec.source}")
        series = "" if own else pythons.series(wanted)
        if series and not self.uv.succeeds(self._venv(wanted)):
            sdk.say(f"note: Python {wanted} cannot be had; another release of {series} is used")
            shutil.rmtree(self.folder, ignore_errors=True)
            wanted, series = series, ""
        if not series:
            hint = "" if own else f"; install Python {wanted}, or change the version in {self.spec.source}"
            try:
                self.uv.run(self._venv(sys.executable if own else wanted), f"cannot create an environment for {self.spec.source}")
            except sdk.StepError as error:
                raise sdk.StepError(f"{error}{hint}") from None

    def _venv(self, python: str) -> list[str]:
        return ["venv", "--quiet", "--no-project", "--relocatable", "--python", python, str(self.folder)]

    def _create_by_micromamba(self) -> None:
        sdk.say(f"building an environment for {self.spec.source} with micromamba")
        command = ["micromamba", "create", "--yes", "--quiet", "--prefix", str(self.folder), "--file", Path(self.spec.conda).name]
        ended = subprocess.run(
            command, cwd=self.uv.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        for line in ended.stdout.splitlines():
            sdk.say(line)
        if ended.returncode != 0:
            last = " ".join(ended.stdout.split("\n")[-6:]).strip()
            raise sdk.StepError(
                f"micromamba cannot create the environment of {self.spec.source}: {last or f'exit code {ended.returncode}'}"
            )
        if not Path(self.python).exists():
            raise sdk.StepError(f"{self.spec.source}: dependencies: python is missing: the trainer needs it; add it to the list")

    def install(self) -> None:
        """The requirements, and those that FuseML adds: in one resolution, unless the codeset's versions are locked."""
        spec, failure = self.spec, f"cannot install the requirements of {self.spec.source}"
        if spec.locked:
            self._install_locked(failure)
        elif spec.arguments or spec.additions:
            sdk.say(f"requirements: {len(spec.requirements)}{''.join(f', added: {name}' for name in spec.additions)}")
            head, rest = (spec.arguments[:2], spec.arguments[2:]) if spec.arguments else (("pip", "install"), ())
            options = ["--python", self.python, *self._refresh(), *rest, *self._constraints(list(spec.pins)), *self._choices()]
            self._hinted([*head, *options, *spec.additions], failure, spec.text)

    def _install_locked(self, failure: str) -> None:
        spec = self.spec
        if spec.arguments[:1] == ("sync",):
            settings = {**self.uv.settings, "UV_PROJECT_ENVIRONMENT": str(self.folder)}
            synced = uv.Uv(self.uv.folder, self.uv.index, self.uv.find_links, settings)
            synced.run([*spec.arguments, *self._refresh(), "--python", self.python], failure)
        elif spec.arguments:
            self.uv.run([*spec.arguments[:2], "--python", self.python, *spec.arguments[2:]], failure)
        absent = [line for line in spec.additions if requirements.name_of(line) not in self._installed()]
        if absent:
            options = ["--python", self.python, *self._constraints(self._versions()), *self._choices(), *absent]
            self.uv.run(["pip", "install", *options], f"cannot add {', '.join(absent)} to the locked versions of {spec.source}")

    def _hinted(self, command: list[str], failure: str, text: str) -> None:
        try:
            self.uv.run(command, failure, text)
        except sdk.StepError as error:
            version = platform.python_version()
            hint = "" if self.spec.python else f" (no file names a Python version, so this environment has {version})"
            raise sdk.StepError(f"{error}{hint}") from None

    def _constraints(self, lines: list[str]) -> list[str]:
        if not lines:
            return []
        file = self.scratch / "constraints.txt"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return ["--constraints", str(file)]

    def _refresh(self) -> list[str]:
        # uv takes the build of a folder from its cache although its modules have changed, unless the build's own files have.
        return ["--refresh"] if self.spec.installs_codeset() else []

    def _choices(self) -> list[str]:
        options = ["--torch-backend", self.backend] if self.backend else []
        excluded = accelerators.excluded(self.backend, self.spec.names())
        if excluded:
            file = self.scratch / "excludes.txt"
            file.write_text("".join(f"{name}\n" for name in excluded), encoding="utf-8")
            options += ["--excludes", str(file)]
        return options

    def _installed(self) -> dict[str, str]:
        """Name -> version of the installed distributions."""
        found = (path.name.removesuffix(".dist-info").rpartition("-") for path in self.packages.glob("*.dist-info"))
        return {packaging.utils.canonicalize_name(name): version for name, _, version in found}

    def _versions(self) -> list[str]:
        return [f"{name}=={version}" for name, version in sorted(self._installed().items())]

    def add_setuptools(self) -> None:
        """setuptools, which every environment of Python before 3.12 has; older packages, such as MLflow before 3, import its pkg_resources."""
        if "setuptools" in self._installed() or self.packages.parent.name not in needs.PYTHONS_WITH_SETUPTOOLS:
            return
        try:
            options = ["--python", self.python, *self._constraints(self._versions()), needs.SETUPTOOLS]
            self.uv.run(["pip", "install", "--quiet", *options], f"no {needs.SETUPTOOLS}")
        except sdk.StepError as error:
            sdk.say(f"note: packages that import pkg_resources do not work in this environment: {error}")

    def add_server(self) -> None:
        """The model server's packages that the environment lacks, in a folder of their own, compatible with the installed versions."""
        installed = self._installed()
        version = installed.get("mlflow") or installed.get("mlflow-skinny") or ""
        wanted = [*needs.SERVER, *(needs.SERVER_BEFORE_MLFLOW_3 if version.startswith(("1.", "2.")) else ())]
        absent = [name for name in wanted if name not in installed]
        if not absent:
            return
        sdk.say(f"added for the model server only: {', '.join(absent)}")
        target = ["--target", str(self.folder / needs.SERVER_FOLDER)]
        try:
            self.uv.run(
                ["pip", "install", "--quiet", "--python", self.python, *target, *self._constraints(self._versions()), *absent], "no server"
            )
        except sdk.StepError as error:
            # The training does not need them; the model server names them if the model is served from this environment.
            sdk.say(f"note: a model of this environment cannot be served from it: {error}")

    def add_steps(self) -> None:
        """The trainer and the model server, and the lock that their processes hold."""
        carried.copy(self.packages)
        (self.packages / "fuseml_occupancy.pth").write_text(_HOLD, encoding="utf-8")
        (self.folder / occupancy.LOCK).touch()

    def check(self) -> None:
        """Raise StepError if the trainer lacks something here."""
        command = [self.python, "-I", "-m", "fuseml.steps.needs"]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise sdk.StepError(f"the environment of {self.spec.source} does not run: {' '.join(ended.stderr.split()[-40:])}")
        absent = json.loads(ended.stdout)["trainer"]
        if absent:
            raise sdk.StepError(
                f"the environment of {self.spec.source} lacks {', '.join(absent)}, which the trainer needs; add mlflow to the file"
            )

    def complete(self) -> None:
        """Write `bin/run`."""
        entry = self.folder / "bin" / "run"
        partial = entry.with_name(".run")
        partial.write_text(_RUN, encoding="utf-8")
        partial.chmod(0o755)
        partial.replace(entry)
