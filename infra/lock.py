"""`task lock`: one resolution decides the installed versions of every environment.

`requirements.lock` holds the versions with hashes. `uv run` resolves on its own, and its lock file is not committed because it holds registry
addresses; the constraints in `pyproject.toml` repeat the versions, so that its resolution is the same. The images install parts of the lock.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
BEGIN = "# Versions of requirements.lock; `task lock` writes this block."
END = "# End of the versions of requirements.lock."
_BLOCK = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.DOTALL)

_LAPTOP = ("typer", "waitress", "platformdirs", "dulwich")
"""Packages of the command and the embedded server only."""
_NOT_IN_STEPS = ("functions-framework", "kubernetes", "sqlmodel", "cloudevents", "flask-openapi3-swagger")
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.lock": ("--all-extras",),
    "infra/images/functions.lock": (
        "--no-dev",
        "--extra=postgresql",
        "--extra=gcs",
        "--extra=azure",
        "--extra=telemetry",
        *(f"--prune={name}" for name in (*_LAPTOP, "rich")),
    ),
    "infra/images/steps.lock": (
        "--no-dev",
        "--extra=grpc",
        "--extra=mlflow",
        "--extra=gcs",
        "--extra=azure",
        *(f"--prune={name}" for name in (*_LAPTOP, *_NOT_IN_STEPS)),
    ),
}
"""Arguments of `uv export` by lock file."""


def versions(lock: str) -> list[str]:
    """The requirements `name==version ; marker` of a lock's text, without hashes."""
    return [line.rstrip(" \\") for line in lock.splitlines() if line and line[0] not in " #-"]


def without_constraints(project: str) -> str:
    """The text of `pyproject.toml` without the generated block. Raises ValueError if it holds none or several."""
    rest, number = _BLOCK.subn(f"{BEGIN}\n{END}\n", project)
    if number != 1:
        raise ValueError(f"pyproject.toml must hold one block from {BEGIN!r} to {END!r}, it holds {number}")
    return rest


def with_constraints(project: str, packages: Sequence[str], build: Sequence[str]) -> str:
    """The text of `pyproject.toml` with the block for `packages` and for the `build` backend."""

    def table(name: str, lines: Sequence[str]) -> str:
        return f"{name} = [\n" + "".join(f'    "{line}",\n' for line in lines) + "]\n"

    block = BEGIN + "\n" + table("constraint-dependencies", packages) + table("build-constraint-dependencies", build) + END + "\n"
    return without_constraints(project).replace(f"{BEGIN}\n{END}\n", block)


def resolve(project: str, folder: pathlib.Path, *options: str) -> dict[str, str]:
    """The text of each lock by file name, for the text of a `pyproject.toml`, resolved in an empty `folder`. `options` go to uv.

    Raises RuntimeError with uv's message.
    """
    (folder / "pyproject.toml").write_text(project)
    for name in ("README.md", "LICENSE", "shared/fuseml/version.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    _uv("lock", *options, folder=folder)
    export = ("export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate")
    return {name: _uv(*export, *arguments, *options, folder=folder) for name, arguments in LOCKS.items()}


def _build_versions(project: str, folder: pathlib.Path) -> list[str]:
    requirements = folder / "build.in"
    requirements.write_text("\n".join(tomllib.loads(project)["build-system"]["requires"]))
    return versions(_uv("pip", "compile", "--quiet", "--universal", "--no-header", "--no-annotate", str(requirements), folder=folder))


def _uv(*arguments: str, folder: pathlib.Path) -> str:
    result = subprocess.run(["uv", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"uv {arguments[0]} failed:\n{result.stderr}")
    return result.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="task lock", description="Resolve all dependencies, and write the locks and the constraints.")
    parser.add_argument("--keep", action="store_true", help="keep the locked versions; write only added and removed packages")
    keep = parser.parse_args(arguments).keep
    path = ROOT / "pyproject.toml"
    project = path.read_text()
    with tempfile.TemporaryDirectory() as folder:
        locks = resolve(project if keep else without_constraints(project), pathlib.Path(folder))
        build = _build_versions(project, pathlib.Path(folder))
    for name, text in locks.items():
        (ROOT / name).write_text(text)
    path.write_text(with_constraints(project, versions(locks["requirements.lock"]), build))


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
