"""Environment specifications from conda.yaml, python_env.yaml and requirements.txt, and their comparison with an installed environment.

Pure rules: text in, a normalised `Environment` out. Equivalent files give equal `Environment`s and so equal keys, whatever their order,
spelling and comments. A conda package is read as the Python package of its name, with a note for the author of the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import packaging.requirements
import packaging.specifiers
import packaging.utils
import packaging.version

from fuseml.steps import mlproject, sdk

Read = Callable[[str], str]
"""Reads an included file. Raises StepError."""

Installed = Callable[[str], "tuple[str, list[str]] | None"]
"""Normalised name -> version and requirements of an installed distribution; None for one that is not installed."""

# Channels whose Python packages correspond to those of the Python package index.
_KNOWN_CHANNELS = {"defaults", "conda-forge", "anaconda", "main", "nodefaults"}
_INCLUDES = ("-r", "--requirement", "-c", "--constraint")
_OPTION = re.compile(r"^(-\S+?)(?:[ =]\s*(.*))?$")
_CONDA = re.compile(r"^(?:[\w./-]+::)?(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<version>[^|\[\]]*)$")
_CONDA_PIN = re.compile(r"(?P<sign>={0,2})\s*(?P<number>[\w.!+]*\*?)(?P<build>[= ]\s*\S+)?")


@dataclass(frozen=True)
class Environment:
    """A Python version (a specifier such as `==3.11.*`; empty for any), and requirements and installer options, sorted, without duplicates."""

    source: str
    python: str = ""
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def key(self, **inputs: str) -> str:
        """16 hexadecimal digits of a digest of this environment and the inputs of its build."""
        content = [self.python, self.requirements, self.constraints, self.options, sorted(inputs.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def file(self) -> str:
        """The text of a requirements file."""
        return "".join(f"{line}\n" for line in (*self.options, *self.requirements))


def parse(name: str, text: str, read: Read) -> Environment:
    """Parse an environment file of any of the three kinds; the content, not the name, distinguishes python_env.yaml and conda.yaml.

    Raises StepError naming the file and the wrong key or line.
    """
    if name.endswith((".yaml", ".yml")):
        data = mlproject.mapping(mlproject.load(text, name), name)
        if "channels" in data or "conda" in name or any(isinstance(item, dict) for item in _list(data, "dependencies", name)):
            return _conda(name, data, read)
        return _python_env(name, data, read)
    return _lines(Environment(name), text.splitlines(), name, read)


def _python_env(name: str, data: Mapping[str, object], read: Read) -> Environment:
    python = data.get("python")
    if python is not None and not isinstance(python, str):
        raise sdk.StepError(
            f'{name}: python: write the version in quotes, as in python: "3.11"; YAML reads {python} as a number and loses zeros'
        )
    environment = Environment(name, python=_python(python or "", f"{name}: python"))
    # Build dependencies are not installed: uv isolates every build with its own.
    lines = [_line(item, f"{name}: dependencies") for item in _list(data, "dependencies", name)]
    unknown = set(data) - {"python", "build_dependencies", "dependencies"}
    if unknown:
        raise sdk.StepError(
            f"{name}: {min(unknown)}: is not a key of a python_env file; the keys are python, build_dependencies and dependencies"
        )
    return _lines(environment, lines, f"{name}: dependencies", read)


def _conda(name: str, data: Mapping[str, object], read: Read) -> Environment:
    notes = [
        f"{name}: the conda channel '{channel}' is not used: packages come from the Python package index"
        for channel in _list(data, "channels", name)
        if str(channel) not in _KNOWN_CHANNELS
    ]
    if data.get("variables"):
        notes.append(f"{name}: variables are not set; use the workflow step's 'env' for them")
    python, converted, lines = "", [], []
    for item in _list(data, "dependencies", name):
        if isinstance(item, dict):
            for line in _list(mlproject.mapping(item, f"{name}: dependencies"), "pip", f"{name}: dependencies"):
                lines.append(_line(line, f"{name}: dependencies.pip"))
            if set(item) - {"pip"}:
                raise sdk.StepError(f"{name}: dependencies: only 'pip' may hold a list, not '{min(map(str, set(item) - {'pip'}))}'")
            continue
        package, version = _conda_package(_line(item, f"{name}: dependencies"), name)
        if package == "python":
            python = _python(version, f"{name}: dependencies: python")
        elif package not in ("pip", "setuptools", "wheel"):
            converted.append(package + version)
    if converted:
        notes.append(f"{name}: taken from the Python package index instead of conda: {', '.join(converted)}")
    environment = Environment(name, python=python, notes=tuple(notes))
    return _lines(environment, [*converted, *lines], f"{name}: dependencies", read)


def _conda_package(text: str, name: str) -> tuple[str, str]:
    """A conda match specification as a name and a Python version specifier: `=1.2` is `==1.2.*`, a build string is dropped."""
    match = _CONDA.match(text.strip())
    if match is None:
        raise sdk.StepError(
            f"{name}: dependencies: '{text}' cannot be read as a Python requirement; move it under 'pip:' in Python's spelling"
        )
    package, version = match["name"].lower(), match["version"].strip()
    pinned = _CONDA_PIN.fullmatch(version)
    if pinned is None:
        return package, version.replace(" ", "")  # empty, or comparisons, which conda and Python spell alike
    number = re.sub(r"\.?\*$", "", pinned["number"])
    if not number:
        return package, ""
    loose = number != pinned["number"] or (pinned["sign"] == "=" and not pinned["build"])
    return package, f"=={number}.*" if loose else f"=={number}"


def _python(version: str, key: str) -> str:
    """The specifier: `3.11` matches any 3.11, `3.11.4` that release."""
    version = version.strip()
    if re.fullmatch(r"\d+(\.\d+)?", version):
        version = f"=={version}.*"
    elif re.fullmatch(r"\d+\.\d+\.(\d+|\*)", version):
        version = f"=={version}"
    try:
        return str(packaging.specifiers.SpecifierSet(version))
    except packaging.specifiers.InvalidSpecifier:
        raise sdk.StepError(f"{key}: '{version}' is not a Python version; write one such as \"3.11\"") from None


def _lines(environment: Environment, lines: Iterable[str], key: str, read: Read, seen: tuple[str, ...] = ()) -> Environment:
    """Add the lines of a requirements file, following its includes."""
    requirements, constraints, options = set(environment.requirements), set(environment.constraints), set(environment.options)
    for raw in _joined(lines):
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        option = _OPTION.match(line)
        if not line:
            continue
        if option and option[1] in _INCLUDES:
            file = (option[2] or "").strip()
            if file in seen:
                raise sdk.StepError(f"{key}: '{file}' includes itself")
            part = _lines(Environment(file), read(file).splitlines(), file, read, (*seen, file))
            if option[1] in ("-r", "--requirement"):
                requirements |= set(part.requirements)
                constraints |= set(part.constraints)
            else:
                constraints |= set(part.requirements)
            options |= set(part.options)
        elif option and option[1] in ("-e", "--editable"):
            raise sdk.StepError(
                f"{key}: '{line}': an environment cannot hold the code of the checkout; the entry point runs in the checkout anyway"
            )
        elif option:
            options.add(line)
        else:
            requirements.add(_normal(line, key))
    return replace(
        environment, requirements=tuple(sorted(requirements)), constraints=tuple(sorted(constraints)), options=tuple(sorted(options))
    )


def _joined(lines: Iterable[str]) -> list[str]:
    """The lines with continuations (a trailing backslash) joined, as in pip."""
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def _normal(line: str, key: str) -> str:
    requirement, *hashes = re.split(r"(?<!\s)\s++(?=--hash[= ])", line)
    try:
        parsed = packaging.requirements.Requirement(requirement)
    except packaging.requirements.InvalidRequirement:
        hint = "a path of the checkout cannot be a requirement" if re.match(r"[./]", line) else "write it as name==version"
        raise sdk.StepError(f"{key}: '{line}' is not a Python requirement; {hint}") from None
    parsed.name = packaging.utils.canonicalize_name(parsed.name)
    return " ".join([str(parsed), *sorted(hashes)])


def unmet(environment: Environment, python: str, installed: Installed) -> list[str]:
    """A phrase for each unmet requirement of a running environment. `python` is its version, e.g. 3.11.9."""
    phrases = []
    if not packaging.specifiers.SpecifierSet(environment.python).contains(python, prereleases=True):
        phrases.append(f"Python {environment.python} (this is {python})")
    for line in environment.requirements:
        phrases += _unmet(packaging.requirements.Requirement(line.partition(" --hash")[0]), installed, frozenset())
    for line in environment.constraints:
        constraint = packaging.requirements.Requirement(line.partition(" --hash")[0])
        if installed(packaging.utils.canonicalize_name(constraint.name)) is not None:
            phrases += _unmet(constraint, installed, frozenset())
    return list(dict.fromkeys(phrases))


def _unmet(
    requirement: packaging.requirements.Requirement, installed: Installed, visited: frozenset[tuple[str, str]], extra: str = ""
) -> list[str]:
    """The phrases for one requirement and for the requirements of its extras."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return []
    distribution = packaging.utils.canonicalize_name(requirement.name)
    present = installed(distribution)
    if present is None:
        return [f"{requirement} (not installed)"]
    version, own = present
    if requirement.url is not None:
        return [f"{requirement} (installed is {version} of unknown origin)"]
    if not requirement.specifier.contains(version, prereleases=True):
        return [f"{requirement} (installed is {version})"]
    phrases = []
    for name in sorted(requirement.extras):
        if (distribution, name) in visited:
            continue
        for line in own:
            part = packaging.requirements.Requirement(line)
            if part.marker is not None and not part.marker.evaluate({"extra": ""}):
                phrases += _unmet(part, installed, visited | {(distribution, name)}, name)
    return phrases


def _list(data: Mapping[str, object], key: str, parent: str) -> list[object]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise sdk.StepError(f"{parent}: {key}: must be a list")
    return value


def _line(item: object, key: str) -> str:
    if not isinstance(item, str):
        raise sdk.StepError(f"{key}: '{item}' must be text")
    return item
