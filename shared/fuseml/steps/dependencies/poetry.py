"""Poetry's tables of `pyproject.toml`, read by Poetry's own library, and the versions of `poetry.lock`."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import packaging.utils

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout, pythons, requirements

if TYPE_CHECKING:
    from poetry.core.packages.project_package import ProjectPackage

_NAME = "pyproject.toml"


def of_project(folder: Path, data: Mapping[str, object], extras: Collection[str], groups: Collection[str]) -> requirements.Environment:
    """The environment of a project of Poetry in `folder`: its dependencies, those of its groups and of the named extras and groups.

    Optional groups and the group `dev` are left out unless `groups` names them. Raises StepError naming what is wrong.
    """
    files = checkout.Folder(folder)
    package, module_folder = _read(folder)
    lines = [*_sources(data), *_dependencies(package, extras, groups)]
    notes = []
    if module_folder is not None:
        lines.append(".")
    if "||" in str(package.python_constraint):
        notes.append(f"{_NAME}: tool.poetry.dependencies.python: alternatives of versions are not used; write one range, such as >=3.9,<4")
    python = pythons.specifier(_python(package), f"{_NAME}: tool.poetry.dependencies.python")
    pins = _pins(files.read("poetry.lock")) if files.has("poetry.lock") else []
    source = "poetry.lock" if pins else _NAME
    if pins:
        notes.append(f"versions are those of poetry.lock ({len(pins)} packages)")
    environment = requirements.Environment(source, python=python, notes=tuple(notes), pins=tuple(sorted(pins)))
    return requirements.of_lines(environment, lines, _NAME, files)


def _read(folder: Path) -> tuple[ProjectPackage, Path | None]:
    """The package, and the folder of its module if it is to be installed itself."""
    # Imported here: only projects of Poetry need it.
    from poetry.core.factory import Factory

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # deprecated fields, which the author's own tool reports
            project = Factory().create_poetry(folder)
    except Exception as error:  # the library raises several kinds, also ValueError and RuntimeError
        raise sdk.StepError(f"{_NAME}: {error}") from None
    if not project.is_package_mode:
        return project.package, None
    name = re.sub(r"[-.]+", "_", project.package.name)
    names = [str(item.get("include", "")).split("/")[0] for item in project.package.packages] or [name]
    return project.package, next((folder / start for start in ("", "src") for one in names if _is_module(folder / start / one)), None)


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def _python(package: ProjectPackage) -> str:
    text = str(package.python_constraint)
    return "" if text == "*" else text.replace(" ", "") if "||" not in text else ""


def _dependencies(package: ProjectPackage, extras: Collection[str], groups: Collection[str]) -> list[str]:
    available = sorted(package.dependency_group_names(include_optional=True) - {"main"})
    _expect("group", groups, available)
    _expect("extra", extras, sorted(package.extras))
    chosen = {dependency.name for extra in extras for dependency in package.extras[packaging.utils.canonicalize_name(extra)]}
    lines = []
    for name in ["main", *available]:
        group = package.dependency_group(name)
        if name not in groups and name != "main" and (group.is_optional() or name == "dev"):
            continue
        for dependency in group.dependencies:
            if not dependency.is_optional() or name != "main" or dependency.name in chosen:
                lines.append(dependency.to_pep_508(with_extras=False).replace(" (", "").replace(")", "", 1))
    return lines


def _expect(kind: str, names: Collection[str], available: Sequence[str]) -> None:
    for name in names:
        if name not in available:
            raise sdk.StepError(f"{_NAME}: there is no {kind} '{name}'; the {kind}s are: {', '.join(available) or 'none'}")


def _sources(data: Mapping[str, object]) -> list[str]:
    """Options for the package indexes of the project."""
    tool = data.get("tool")
    table = tool.get("poetry") if isinstance(tool, dict) else None
    sources = table.get("source") if isinstance(table, dict) else None
    urls = [str(item.get("url") or "") for item in (sources if isinstance(sources, list) else []) if isinstance(item, dict)]
    return [f"--extra-index-url {url}" for url in urls if url]


def _pins(text: str) -> list[str]:
    """A constraint for each package of the lock that has one version, which comes from an index."""
    try:
        packages = tomllib.loads(text).get("package", [])
    except tomllib.TOMLDecodeError as error:
        raise sdk.StepError(f"poetry.lock: {error}; write it anew with `poetry lock`") from None
    names = [str(item.get("name")) for item in packages]
    return [
        f"{packaging.utils.canonicalize_name(item['name'])}=={item['version']}"
        for item in packages
        if names.count(str(item.get("name"))) == 1 and "version" in item and item.get("source", {}).get("type", "legacy") == "legacy"
    ]
