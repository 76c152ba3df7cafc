"""Makes environments in a folder that all runs share, one subfolder for each content key, with uv.

An environment appears whole or not at all: it is made under another name and renamed, so the folder's existence means that it is complete.
Two builders that want the same one wait for each other through a file lock, which the system releases however a builder ends.
It is made relocatable, and it holds a copy of this package, as a trainer image holds its `run`: `bin/run` is the trainer.
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
# What uv draws its explanations with; a cause is one line of plain text.
_DRAWING = re.compile("[\u00d7\u2500-\u257f\u25b6]+")
_KEPT_LINES = 12


def uv() -> str:
    """The path of the uv program: on the PATH, or the one that the Python package brings. Raises StepError where neither is there."""
    found = shutil.which("uv")
    if found:
        return found
    try:
        from uv import find_uv_bin  # type: ignore[import-not-found,unused-ignore]

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise sdk.StepError(
            "the program 'uv' is needed to make an environment and is not there: install it with 'pip install uv'"
        ) from None


def make(wanted: requirements.Environment, folder: Path, *, index: str = "", find_links: str = "") -> bool:
    """Make `wanted` at `folder` if it is not there, and tell whether it had to be made.

    `index` is the URL of a package index, `none` for none, empty for uv's own setting; `find_links` a folder or page of wheels.
    Raises StepError with the last lines of the installer if that fails; nothing is left behind then.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            sdk.say("another builder has just made this environment")
            return False
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a builder that was killed: while this lock is held, nobody works on it
        try:
            build(wanted, partial, index=index, find_links=find_links)
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
            sdk.say("another builder is making this environment; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fits(wanted: requirements.Environment) -> bool:
    """Whether the Python that runs here is one that is wanted."""
    return packaging.specifiers.SpecifierSet(wanted.python).contains(platform.python_version(), prereleases=True)


def build(
    wanted: requirements.Environment, folder: Path, *, index: str = "", find_links: str = "", settings: Mapping[str, str] | None = None
) -> None:
    """Make `wanted` at `folder`, which is left half made if that fails. `settings` are variables for uv; the rest is that of `make`."""
    installer = _Installer(uv(), folder.parent, index, find_links, settings or {})
    python = sys.executable if fits(wanted) else wanted.python
    told = platform.python_version() if fits(wanted) else wanted.python
    sdk.say(f"making an environment with Python {told} and {len(wanted.requirements)} requirements")
    installer.run(["venv", "--quiet", "--relocatable", "--python", python, str(folder)], f"cannot make an environment for {wanted.source}")
    if wanted.requirements:
        listed, limits = folder / "requirements.txt", folder / "constraints.txt"
        listed.write_text(wanted.file() + (f"-c {limits.name}\n" if wanted.constraints else ""), encoding="utf-8")
        limits.write_text("".join(f"{line}\n" for line in wanted.constraints), encoding="utf-8")
        install = ["pip", "install", "--python", str(folder / "bin" / "python"), "--requirements", str(listed)]
        installer.run(install + (["--no-index"] if index == "none" else []), f"cannot install what {wanted.source} asks for")
    _add_steps(folder)


@dataclass(frozen=True)
class _Installer:
    """The uv program. It works in the environments' folder, so that settings which the checkout may hold for uv do not count."""

    program: str
    folder: Path
    index: str
    find_links: str
    settings: Mapping[str, str]

    def run(self, arguments: list[str], failure: str) -> None:
        """Run uv with its messages in the step's log as they come; the last ones explain a failure."""
        surroundings = {**os.environ, "UV_NO_PROGRESS": "1", **self.settings}
        # By environment, because a URL may hold a password and everybody on the machine can read command lines.
        if self.index not in ("", "none"):
            surroundings["UV_DEFAULT_INDEX"] = self.index
        if self.find_links:
            surroundings["UV_FIND_LINKS"] = self.find_links
        said: list[str] = []
        with subprocess.Popen(
            [self.program, *arguments], cwd=self.folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                sdk.say(line.rstrip())
                said.append(_DRAWING.sub(" ", line).strip())
        if process.returncode != 0:
            start = next((index for index, line in enumerate(said) if line.startswith(("error", "No solution"))), -_KEPT_LINES)
            raise sdk.StepError(f"{failure}: {' '.join(said[start:][:_KEPT_LINES]) or f'uv ended with {process.returncode}'}")


def _add_steps(environment: Path) -> None:
    ours = Path(__file__).parent
    [packages] = (environment / "lib").glob("python*/site-packages")
    target = packages / "fuseml"
    if not target.exists():  # it may be one of the requirements
        target.mkdir()
        (target / "__init__.py").write_text((ours.parent / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
        shutil.copytree(ours, target / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    entry = environment / "bin" / "run"
    entry.write_text(_RUN, encoding="utf-8")
    entry.chmod(0o755)


def own_content() -> str:
    """The source of this package, which becomes part of every environment and so of its key."""
    return "".join(file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py")))
