"""`pyproject.toml` (PEP 621, dependency groups), `uv.lock` and `pylock.toml`, which uv installs itself."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import packaging.utils

from fuseml.steps import mlproject, sdk
from fuseml.steps.dependencies import checkout, pythons, requirements

NAME = "pyproject.toml"

Export = Callable[[Path, Sequence[str]], str]
"""Folder and arguments of `uv export` -> its output. Raises StepError."""


def load(files: checkout.Files, name: str = NAME) -> dict[str, object]:
    """The data of a TOML file. Raises StepError with line and column of a syntax error."""
    try:
        return tomllib.loads(files.read(name))
    except tomllib.TOMLDecodeError as error:
        raise sdk.StepError(f"{name}: {error}; correct the file") from None


def declares_dependencies(data: Mapping[str, object]) -> bool:
    """Whether the file describes an environment; many hold settings of tools only."""
    project = _table(data, "project")
    return (
        "dependencies" in project
        or "dependencies" in _names(project.get("dynamic"), "project.dynamic")
        or bool(data.get("dependency-groups"))
    )


def of_project(
    files: checkout.Files, data: Mapping[str, object], extras: Collection[str], groups: Collection[str]
) -> requirements.Environment:
    """The environment of the project, with the named extras and groups. Raises StepError naming the table that is wrong."""
    project = _table(data, "project")
    lines = _lines(data, extras, groups)
    python = project.get("requires-python")
    environment = requirements.Environment(
        NAME,
        python=pythons.specifier(str(python), f"{NAME}: project.requires-python") if python else "",
        opaque=("dependencies of the build backend",) if "dependencies" in _names(project.get("dynamic"), "project.dynamic") else (),
        arguments=(
            *("pip", "install", "--no-editable"),
            *(option for group in sorted(groups) for option in ("--group", group)),
        ),
    )
    outlined = requirements.outlined(environment, lines, f"{NAME}: project.dependencies", files)
    if is_package(data):
        text = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
        whole = requirements.outlined(requirements.Environment(NAME), ["."], NAME, files)
        return requirements.merged(outlined, whole, extra=("--requirements", "-"), text=f"{text}\n")
    chosen = tuple(option for extra in sorted(extras) for option in ("--extra", extra))
    return requirements.merged(outlined, outlined, extra=("--requirements", NAME, *chosen))


def is_package(data: Mapping[str, object]) -> bool:
    """Whether the project itself is installed, by uv's rule: it names a build backend."""
    setting = mlproject.mapping(_table(data, "tool").get("uv"), f"{NAME}: tool.uv").get("package")
    return bool(setting) if isinstance(setting, bool) else "build-system" in data


def _lines(data: Mapping[str, object], extras: Collection[str], groups: Collection[str]) -> list[str]:
    project = _table(data, "project")
    lines = list(_names(project.get("dependencies"), "project.dependencies"))
    optional = mlproject.mapping(project.get("optional-dependencies"), f"{NAME}: project.optional-dependencies")
    for extra in extras:
        written = _found(extra, optional, "extra", "project.optional-dependencies")
        lines += _names(optional[written], f"project.optional-dependencies.{written}")
    tables = mlproject.mapping(data.get("dependency-groups"), f"{NAME}: dependency-groups")
    for group in groups:
        lines += _group(group, tables, ())
    return lines


def _group(name: str, tables: Mapping[str, object], seen: tuple[str, ...]) -> list[str]:
    if name in seen:
        raise sdk.StepError(f"{NAME}: dependency-groups.{name}: includes itself; remove one include-group")
    items = tables[_found(name, tables, "group", "dependency-groups")]
    if not isinstance(items, list):
        raise sdk.StepError(f"{NAME}: dependency-groups.{name}: must be a list of requirements and of tables with include-group")
    lines: list[str] = []
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("include-group"), str) and len(item) == 1:
            lines += _group(item["include-group"], tables, (*seen, name))
        else:
            lines += _names([item], f"dependency-groups.{name}")
    return lines


def _found(name: str, tables: Mapping[str, object], kind: str, key: str) -> str:
    for written in tables:
        if packaging.utils.canonicalize_name(written) == packaging.utils.canonicalize_name(name):
            return written
    raise sdk.StepError(f"{NAME}: {key}: there is no {kind} '{name}'; the {kind}s are: {', '.join(tables) or 'none'}")


def of_uv_lock(
    files: checkout.Folder, data: Mapping[str, object], extras: Collection[str], groups: Collection[str], export: Export
) -> requirements.Environment:
    """The environment of `uv.lock`, without the group `dev` unless it is named. Raises StepError with uv's message."""
    _lines(data, extras, groups)  # names an unknown extra or group better than uv
    chosen = [option for extra in sorted(extras) for option in ("--extra", extra)]
    chosen += [option for group in sorted(groups) for option in ("--group", group)]
    options = ["--frozen", "--no-editable", *([] if "dev" in groups else ["--no-dev"]), *chosen]
    python = _table(data, "project").get("requires-python")
    environment = requirements.Environment(
        "uv.lock",
        python=pythons.specifier(str(python), f"{NAME}: project.requires-python") if python else "",
        contents=(f"uv.lock {files.digest('uv.lock')}",),
        arguments=("sync", "--inexact", *options),
        locked=True,
    )
    lines = export(files.folder, [*options, "--no-header", "--no-annotate", "--no-hashes"]).splitlines()
    return requirements.outlined(environment, lines, "uv.lock", files)


def of_pylock(name: str, files: checkout.Files) -> requirements.Environment:
    """The environment of a `pylock.toml` (PEP 751). Raises StepError."""
    data = load(files, name)
    packages = data.get("packages")
    lines, opaque = [], []
    for item in packages if isinstance(packages, list) else []:
        table = mlproject.mapping(item, f"{name}: packages")
        marker = f" ; {table['marker']}" if table.get("marker") else ""
        if "version" in table and not {"vcs", "directory", "archive"} & set(table):
            lines.append(f"{table.get('name')}=={table['version']}{marker}")
        else:
            opaque.append(str(table.get("name")))
    python = data.get("requires-python")
    environment = requirements.Environment(
        name,
        python=pythons.specifier(str(python), f"{name}: requires-python") if python else "",
        opaque=tuple(opaque),
        contents=(f"{name} {files.digest(name)}",),
        arguments=("pip", "install", "--preview-features", "pylock", "--requirements", name),
        locked=True,
    )
    return requirements.outlined(environment, lines, name, files)


def uv_settings(files: checkout.Files) -> tuple[str, ...]:
    """The settings of uv in the codeset, such as its indexes, as contents of an environment."""
    found = [f"uv.toml {files.digest('uv.toml')}"] if files.has("uv.toml") else []
    if files.has(NAME):
        settings = mlproject.mapping(_table(load(files), "tool").get("uv"), f"{NAME}: tool.uv")
        found += [f"tool.uv {json.dumps(settings, sort_keys=True, default=str)}"] if settings else []
    return tuple(found)


def _table(data: Mapping[str, object], key: str) -> dict[str, object]:
    return mlproject.mapping(data.get(key), f"{NAME}: {key}")


def _names(value: object, key: str) -> list[str]:
    """A list of texts, empty if it is missing. Raises StepError naming `key`: a part that is left out would be missed in the training."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise sdk.StepError(f"{NAME}: {key}: must be a list of texts")
    return value
