"""One lock decides which versions are installed: by `uv run`, by the images, on every machine."""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from packaging import requirements

from infra import lock
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_a_resolution_on_a_fresh_machine_arrives_at_the_lock(tmp_path: pathlib.Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    locks = lock.resolve((ROOT / "pyproject.toml").read_text(), project, "--cache-dir", str(tmp_path / "cache"))
    different = {name: set(lock.versions(text)) ^ set(lock.versions((ROOT / name).read_text())) for name, text in locks.items()}
    assert different == {name: set() for name in lock.LOCKS}


def test_the_project_constrains_every_locked_version() -> None:
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == lock.versions(LOCK)


def test_the_versions_that_build_the_package_are_constrained_too() -> None:
    constrained = [requirements.Requirement(line) for line in PROJECT["tool"]["uv"]["build-constraint-dependencies"]]
    assert all(str(requirement.specifier).startswith("==") for requirement in constrained)
    assert {requirements.Requirement(line).name for line in PROJECT["build-system"]["requires"]} <= {known.name for known in constrained}


def test_no_date_stands_in_for_the_lock() -> None:
    assert "exclude-newer" not in PROJECT["tool"]["uv"]


def test_the_installed_versions_are_the_locked_ones() -> None:
    different = {}
    for line in lock.versions(LOCK):
        locked = requirements.Requirement(line)
        if locked.marker is not None and not locked.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(locked.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if not locked.specifier.contains(installed, prereleases=True):
            different[locked.name] = (installed, str(locked.specifier))
    assert different == {}


def test_every_declared_dependency_is_locked_with_hashes() -> None:
    locked = {normal(requirements.Requirement(line).name) for line in lock.versions(LOCK)}
    project = PROJECT["project"]
    declared = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert {normal(requirements.Requirement(line).name) for line in declared} <= locked
    assert all("--hash=sha256:" in pin for pin in pins(LOCK))


@pytest.mark.parametrize("image", ["functions", "steps"])
def test_an_image_installs_a_part_of_the_lock(image: str) -> None:
    part = pins((ROOT / f"infra/images/{image}.lock").read_text())
    assert {line.partition(" ;")[0] for line in part} <= {line.partition(" ;")[0] for line in pins(LOCK)}
    names = {re.split("[=;[ ]", line)[0] for line in part}
    assert ("mlflow" in names, "kubernetes" in names) == (image == "steps", image == "functions")


def test_a_project_without_the_generated_block_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold one block"):
        lock.without_constraints("[tool.uv]\n")


def test_a_failed_resolution_reports_uv_s_message(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match="uv lock failed"):
        lock.resolve("[project]\nname = 1\n", tmp_path)


def test_the_command_has_help() -> None:
    assert "--keep" in commands.run([sys.executable, "-m", "infra.lock", "--help"], cwd=ROOT).stdout


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> set[str]:
    """`name==version --hash` of everything in a lock."""
    return set(re.sub(r" \\\n +", " ", text).splitlines())
