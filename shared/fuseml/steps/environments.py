"""Builds environments with uv in a folder that all runs share, one subfolder for each content key.

An environment is built under another name and renamed, so an existing folder is complete. A file lock serialises the builders of the same
environment; the system releases it however a builder ends. The environment is relocatable and holds a copy of this package, like a trainer
image: `bin/run` is the trainer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import packaging.specifiers

from fuseml.steps import requirements, sdk

# -I keeps the modules of the checkout from shadowing those of the environment.
_RUN = """#!/bin/sh
exec "$(dirname "$0")/python" -I -m fuseml.steps.mlflow_trainer "$@"
"""
# Box-drawing characters of uv's messages; a cause is one line of plain text.
_DRAWING = re.compile("[\u00d7\u2500-\u257f\u25b6]+")
_KEPT_LINES = 12


def uv() -> str:
    """The path of the uv program: on the PATH, or that of the Python package. Raises StepError without either."""
    program = shutil.which("uv")
    if program:
        return program
    try:
        from uv import find_uv_bin  # type: ignore[import-not-found,unused-ignore]

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise sdk.StepError("the program 'uv', which builds environments, is missing: install it with 'pip install uv'") from None


def make(spec: requirements.Environment, folder: Path, *, index: str = "", find_links: str = "") -> bool:
    """Build the environment at `folder` unless it exists. Returns whether it was built.

    `index` is the URL of a package index, `none` for none, empty for uv's own setting; `find_links` a folder or page of wheels.
    Raises StepError with the last lines of a failed installer, and leaves no folder behind.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            sdk.say("another builder has just built this environment")
            return False
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a killed builder: the lock excludes a running one
        try:
            build(spec, partial, index=index, find_links=find_links)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


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
    return packaging.specifiers.SpecifierSet(spec.python).contains(platform.python_version(), prereleases=True)


def build(
    spec: requirements.Environment, folder: Path, *, index: str = "", find_links: str = "", settings: Mapping[str, str] | None = None
) -> None:
    """Build the environment at `folder`, which is incomplete after a failure. `settings` are variables for uv; the rest is as for `make`."""
    installer = _Installer(uv(), folder.parent, index, find_links, settings or {})
    python = sys.executable if fits(spec) else spec.python
    version = platform.python_version() if fits(spec) else spec.python
    sdk.say(f"building an environment with Python {version} and {len(spec.requirements)} requirements")
    installer.run(["venv", "--quiet", "--relocatable", "--python", python, str(folder)], f"cannot create an environment for {spec.source}")
    if spec.requirements:
        listed, limits = folder / "requirements.txt", folder / "constraints.txt"
        listed.write_text(spec.file() + (f"-c {limits.name}\n" if spec.constraints else ""), encoding="utf-8")
        limits.write_text("".join(f"{line}\n" for line in spec.constraints), encoding="utf-8")
        install = ["pip", "install", "--python", str(folder / "bin" / "python"), "--requirements", str(listed)]
        installer.run(install + (["--no-index"] if index == "none" else []), f"cannot install the requirements of {spec.source}")
    _add_steps(folder)


@dataclass(frozen=True)
class _Installer:
    """The uv program. It runs in the environments' folder, so settings for uv in the checkout have no effect."""

    program: str
    folder: Path
    index: str
    find_links: str
    settings: Mapping[str, str]

    def run(self, arguments: list[str], failure: str) -> None:
        """Run uv with its messages in the step's log. Raises StepError with the last ones."""
        environment = {**os.environ, "UV_NO_PROGRESS": "1", **self.settings}
        # Variables, not arguments: a URL may hold a password, and command lines are readable for every user of the machine.
        if self.index not in ("", "none"):
            environment["UV_DEFAULT_INDEX"] = self.index
        if self.find_links:
            environment["UV_FIND_LINKS"] = self.find_links
        messages: list[str] = []
        with subprocess.Popen(
            [self.program, *arguments], cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                sdk.say(line.rstrip())
                messages.append(_DRAWING.sub(" ", line).strip())
        if process.returncode != 0:
            start = next((index for index, line in enumerate(messages) if line.startswith(("error", "No solution"))), -_KEPT_LINES)
            raise sdk.StepError(f"{failure}: {' '.join(messages[start:][:_KEPT_LINES]) or f'uv exited with code {process.returncode}'}")


def _add_steps(environment: Path) -> None:
    package = Path(__file__).parent
    [packages] = (environment / "lib").glob("python*/site-packages")
    target = packages / "fuseml"
    if not target.exists():  # it may be one of the requirements
        target.mkdir()
        (target / "__init__.py").write_text((package.parent / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
        shutil.copytree(package, target / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    entry = environment / "bin" / "run"
    entry.write_text(_RUN, encoding="utf-8")
    entry.chmod(0o755)


def own_content() -> str:
    """The source of this package and its sub-packages: a part of every environment, and so of its key."""
    sources = (file for file in Path(__file__).parent.rglob("*") if file.suffix in (".py", ".proto"))
    return "".join(file.read_text(encoding="utf-8") for file in sorted(sources))
