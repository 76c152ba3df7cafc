"""`Pipfile` and `Pipfile.lock`, translated to requirements.

A table of fields of a package maps to the parts of a requirement. The lock holds exact versions; a Pipfile holds ranges.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence

from fuseml.steps import mlproject, sdk
from fuseml.steps.dependencies import checkout, pythons, requirements

# Fields that are names of environment markers; `platform_system = "== 'Linux'"` is the marker `platform_system == 'Linux'`.
_MARKERS = (
    "os_name", "sys_platform", "platform_machine", "platform_python_implementation", "platform_release", "platform_system", "platform_version",
    "python_version", "python_full_version", "implementation_name", "implementation_version",
)  # fmt: skip
_VERSION_CONTROL = ("git", "hg", "svn", "bzr")
_IGNORED = {"index", "editable", "version", "markers", "extras", "hashes", "ref", "subdirectory", "path", "file"}


def of_lock(files: checkout.Files, groups: Collection[str]) -> requirements.Environment:
    """The environment of `Pipfile.lock`, with the packages of the groups. Raises StepError."""
    name = "Pipfile.lock"
    try:
        data = mlproject.mapping(json.loads(files.read(name)), name)
    except ValueError as error:
        raise sdk.StepError(f"{name}: is not JSON: {error}; write it anew with `pipenv lock`") from None
    meta = mlproject.mapping(data.get("_meta"), f"{name}: _meta")
    return _environment(name, meta, data, ["default", *_sections(name, data, groups, "develop", {"_meta", "default"})], files)


def of_pipfile(files: checkout.Files, groups: Collection[str]) -> requirements.Environment:
    """The environment of `Pipfile`, with the packages of the groups. Raises StepError."""
    name = "Pipfile"
    try:
        data = mlproject.mapping(tomllib.loads(files.read(name)), name)
    except tomllib.TOMLDecodeError as error:
        raise sdk.StepError(f"{name}: {error}; correct the file") from None
    meta = {"sources": data.get("source"), "requires": data.get("requires")}
    tables = {"source", "requires", "scripts", "pipenv", "pipfile", "packages"}
    return _environment(name, meta, data, ["packages", *_sections(name, data, groups, "dev-packages", tables)], files)


def _environment(
    name: str, meta: Mapping[str, object], data: Mapping[str, object], sections: Sequence[str], files: checkout.Files
) -> requirements.Environment:
    lines, notes = _sources(meta.get("sources"), name)
    for section in sections:
        for package, value in mlproject.mapping(data.get(section), f"{name}: {section}").items():
            key = f"{name}: {section}.{package}"
            lines.append(requirement(package, value, key, files.above))
            if isinstance(value, dict) and value.get("index"):
                notes.append(f"{key}: the package is looked for in all sources, not only in '{value['index']}'")
    requires = mlproject.mapping(meta.get("requires"), f"{name}: requires")
    version = requires.get("python_full_version") or requires.get("python_version")
    python = pythons.specifier(str(version), f"{name}: requires") if version else ""
    return requirements.of_lines(requirements.Environment(name, python=python, notes=tuple(notes)), lines, name, files)


def _sections(name: str, data: Mapping[str, object], groups: Collection[str], development: str, reserved: Collection[str]) -> Iterator[str]:
    """The section of each group: `dev`, or a category of the author's. Raises StepError for an unknown one."""
    categories = sorted(key for key in data if key not in {*reserved, development})
    for group in sorted(groups):
        if group != "dev" and group not in categories:
            raise sdk.StepError(f"{name}: there is no group '{group}'; the groups are: {', '.join(['dev', *categories])}")
        yield development if group == "dev" else group


def _sources(value: object, name: str) -> tuple[list[str], list[str]]:
    """Options for the package indexes, and notes. The index of the installation takes the place of Pipenv's default one, `pypi`."""
    sources = [mlproject.mapping(item, f"{name}: source") for item in (value if isinstance(value, list) else [])]
    options = [f"--extra-index-url {source['url']}" for source in sources if source.get("url") and source.get("name") != "pypi"]
    replaced = any(source.get("name") == "pypi" for source in sources)
    advice = "the installation's package index takes its place, and the step input 'index-url' names another"
    return options, [f"{name}: the URL of the source 'pypi' is not used: {advice}"] if replaced else []


def requirement(package: str, value: object, key: str, above: int = 0) -> str:
    """The requirement of a package: `value` is a version or a table of fields; `above` is as for `checkout.joined`. Raises StepError naming `key`."""
    if isinstance(value, str):
        return package + _version(value)
    fields = mlproject.mapping(value, key)
    unknown = set(fields) - _IGNORED - set(_MARKERS) - set(_VERSION_CONTROL)
    if unknown:
        raise sdk.StepError(f"{key}: '{min(unknown)}' is not a field of a package; the fields are {', '.join(sorted(_IGNORED))}")
    extras = fields.get("extras")
    named = package + (f"[{','.join(map(str, extras))}]" if isinstance(extras, list) and extras else "")
    markers = [f"({fields['markers']})"] if fields.get("markers") else []
    markers += [f"{marker} {fields[marker]}" for marker in _MARKERS if fields.get(marker)]
    address = _address(fields, key, above)
    text = f"{named} @ {address}" if address else named + _version(str(fields.get("version") or "*"))
    hashes = fields.get("hashes")
    suffix = "".join(f" --hash={item}" for item in hashes) if isinstance(hashes, list) and not address else ""
    return text + (f" ; {' and '.join(markers)}" if markers else "") + suffix


def _version(text: str) -> str:
    return "" if text.strip() in ("", "*") else text.strip() if text.strip()[0] in "=<>!~" else f"=={text.strip()}"


def _address(fields: Mapping[str, object], key: str, above: int) -> str:
    for system in _VERSION_CONTROL:
        if fields.get(system):
            reference = f"@{fields['ref']}" if fields.get("ref") else ""
            folder = f"#subdirectory={fields['subdirectory']}" if fields.get("subdirectory") else ""
            url = re.sub(r"^(\w+@[\w.-]+):(?!\d)", r"ssh://\1/", str(fields[system]))  # git's own form, user@host:path
            return f"{system}+{url.removeprefix(system + '+')}{reference}{folder}"
    path = fields.get("path") or fields.get("file")
    if not path:
        return ""
    text = str(path)
    return text if "://" in text else "./" + checkout.joined("", posixpath.normpath(text), key, above)
