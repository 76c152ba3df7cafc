"""Conda environment files, translated to requirements of the Python package index.

A package is taken by its name on the index (`conda_names`), never by a name that might be another project's there. Packages that are no
Python packages are left out, with a note.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

import packaging.specifiers

from fuseml.steps import mlproject, sdk
from fuseml.steps.dependencies import checkout, conda_names, pythons, requirements, yaml_fields

# Channels whose Python packages correspond to those of the Python package index.
_KNOWN_CHANNELS = {"defaults", "conda-forge", "anaconda", "main", "nodefaults", "pytorch", "nvidia", "https://repo.anaconda.com/pkgs/main"}
_PACKAGE = re.compile(r"^(?:(?P<channel>[\w./:-]+)::)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?:\[(?P<fields>[^\]]*)\])?\s*(?P<version>[^\[\]]*)$")
_PIN = re.compile(r"(?P<sign>={0,2})\s*(?P<number>[\w.!+]*\*?)(?P<build>[= ]\s*\S+)?")
# An environment of uv needs neither; `pip` in a conda file only enables its list `pip:`.
_INSTALLERS = {"pip", "wheel"}


def parse(name: str, data: Mapping[str, object], files: checkout.Files) -> requirements.Environment:
    """The environment of the file. Raises StepError naming the file and the package or key that is wrong."""
    notes = [
        f"{name}: the conda channel '{channel}' is not used: packages come from the Python package index"
        for channel in yaml_fields.items(data, "channels", name)
        if str(channel) not in _KNOWN_CHANNELS
    ]
    notes += _variables(name, data)
    key = f"{name}: dependencies"
    packages, lines = _dependencies(name, data)
    python, accelerator, taken, left_out = "", "", [], []
    for written in packages:
        _check_channel(written, key)
        package, version = _package(written, name)
        if package == "python":
            python = pythons.specifier(version, f"{key}: python") if version else ""
        elif package == "cpuonly":
            accelerator = "cpu"
        elif package not in _INSTALLERS:
            counterpart = conda_names.counterpart(package)
            if counterpart is None:
                raise sdk.StepError(
                    f"{key}: '{written}': the conda package {package} has no known counterpart on the Python package index, where its name may be "
                    "another project's; write the package of the index under 'pip:' instead, or remove it if it is no Python package"
                )
            if not counterpart:
                left_out.append(package)
            else:
                taken.append(counterpart + version)
    if taken:
        notes.append(f"{name}: taken from the Python package index instead of conda: {', '.join(taken)}")
    if left_out:
        notes.append(f"{name}: left out, because they are no Python packages: {', '.join(left_out)}")
    environment = requirements.Environment(
        name, python=python, notes=tuple(notes), folder=posixpath.dirname(name), conda=name, accelerator=accelerator
    )
    return requirements.of_lines(environment, [*taken, *lines], key, files)


def for_micromamba(name: str, data: Mapping[str, object], files: checkout.Files) -> requirements.Environment:
    """The environment of the file as micromamba reads it: nothing is translated. Raises StepError."""
    packages, lines = _dependencies(name, data)
    for written in packages:
        package, version = _package(written, name) if re.match(r"python\b(?!-)", written) else ("", "")
        if package == "python" and version:
            pythons.specifier(version, f"{name}: dependencies: python")  # refuses one that the trainer does not run on
    environment = requirements.Environment(name, notes=_variables(name, data), folder=posixpath.dirname(name), conda=name, locked=True)
    outlined = requirements.outlined(environment, lines, f"{name}: dependencies.pip", files)
    channels = [str(channel) for channel in yaml_fields.items(data, "channels", name)]
    return requirements.with_opaque(outlined, [f"conda {package}" for package in packages] + [f"channel {text}" for text in channels])


def _variables(name: str, data: Mapping[str, object]) -> tuple[str, ...]:
    return (f"{name}: variables are not set; use the workflow step's 'env' for them",) if data.get("variables") else ()


def _dependencies(name: str, data: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """The conda packages and the lines for pip."""
    key, packages, lines = f"{name}: dependencies", [], []
    for item in yaml_fields.items(data, "dependencies", name):
        if not isinstance(item, dict):
            packages.append(yaml_fields.line(item, key))
            continue
        if set(item) - {"pip"}:
            raise sdk.StepError(f"{key}: only 'pip' may hold a list, not '{min(map(str, set(item) - {'pip'}))}'")
        lines += [yaml_fields.line(line, f"{key}.pip") for line in yaml_fields.items(mlproject.mapping(item, key), "pip", key)]
    return packages, lines


def _check_channel(text: str, key: str) -> None:
    """Refuse a package of a channel whose names may be those of other projects on the index."""
    match = _PACKAGE.match(text.strip())
    field = re.search(r"channel\s*=\s*['\"]?([^'\",\]]+)", (match["fields"] if match else None) or "")
    channel = (match["channel"] if match else None) or (field[1].strip() if field else "")
    if channel and not {channel, channel.partition("/")[0]} & _KNOWN_CHANNELS:
        raise sdk.StepError(
            f"{key}: '{text}': the channel {channel} may name another project than the Python package index; write the package of the index "
            "under 'pip:' instead"
        )


def _package(text: str, name: str) -> tuple[str, str]:
    """A conda match specification as a name and a Python version specifier: `=1.2` is `==1.2.*`, a build string is dropped."""
    key = f"{name}: dependencies: '{text}'"
    match = _PACKAGE.match(text.strip())
    if match is None:
        raise sdk.StepError(f"{key}: cannot be read as a Python requirement; move it under 'pip:' in Python's spelling")
    field = re.search(r"version\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|([^,]+))", match["fields"] or "")
    version = match["version"] or (field and (field[1] or field[2] or field[3])) or ""
    return match["name"].lower(), _version(version.strip(), key)


def _version(version: str, key: str) -> str:
    if "|" in version:
        raise sdk.StepError(f"{key}: alternatives of versions cannot be read as a Python requirement; write one range, such as >=1.2,<2")
    pinned = _PIN.fullmatch(version)
    if pinned is not None:
        number = re.sub(r"\.?\*$", "", pinned["number"])
        loose = number != pinned["number"] or (pinned["sign"] == "=" and not pinned["build"])
        version = (f"=={number}.*" if loose else f"=={number}") if number else ""
    else:
        # Comparisons, which conda and Python spell alike; `>=1.2=build` and `>=1.2.*` are conda's own.
        version = re.sub(r"([<>]=?\s*[\w.]+?)\.\*", r"\1", version.replace(" ", ""))
    try:
        packaging.specifiers.SpecifierSet(version)
    except packaging.specifiers.InvalidSpecifier:
        raise sdk.StepError(f"{key}: '{version}' is not a version of Python's kind; write one such as 1.2.3 or >=1.2,<2") from None
    return version
