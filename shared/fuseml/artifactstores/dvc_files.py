"""The files of DVC in a codeset: `.dvc` and `dvc.lock` name outputs by their hashes, `dvc.yaml` artifacts, `.dvc/config` the remote.

Pure: texts in, facts out. Each reader raises InvalidError with the path for text that is no such file.
"""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fuseml.domain import errors

CONFIG = ".dvc/config"
HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True, slots=True)
class Output:
    """Data of a codeset: its path, its hash (MD5, with `.dir` for a folder), bytes and files if known. `is_legacy`: as before DVC 3."""

    path: str
    hash: str
    size: int | None = None
    files: int | None = None
    is_legacy: bool = False


def is_named(path: str) -> bool:
    """Whether a file of a codeset names outputs."""
    return path.endswith(".dvc") or posixpath.basename(path) == "dvc.lock"


def outputs(path: str, text: bytes) -> list[Output]:
    """The outputs that a `.dvc` or `dvc.lock` file names."""
    document = _mapping(path, text)
    folder = posixpath.dirname(path)
    if path.endswith(".dvc"):
        return list(_listed(path, document.get("outs"), posixpath.join(folder, _text(path, "wdir", document.get("wdir") or ""))))
    stages = document.get("stages")
    found: list[Output] = []
    for stage in stages.values() if isinstance(stages, dict) else ():
        found += _listed(path, stage.get("outs") if isinstance(stage, dict) else None, folder)
    return found


def artifacts(path: str, text: bytes) -> dict[str, str]:
    """Name -> path of the artifacts that a `dvc.yaml` declares for GTO."""
    declared = _mapping(path, text).get("artifacts")
    folder = posixpath.dirname(path)
    return {
        str(name): posixpath.normpath(posixpath.join(folder, _text(path, "path", facts["path"])))
        for name, facts in (declared.items() if isinstance(declared, dict) else ())
        if isinstance(facts, dict) and facts.get("path")
    }


def remote(text: str) -> str:
    """The URL of the default remote in `.dvc/config`."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    try:
        parser.read_string("\n".join(line.strip() for line in text.splitlines()))
    except configparser.Error:
        # Without its text, which may hold the password of a remote.
        raise errors.InvalidError(f"{CONFIG} is not a configuration of DVC; `dvc config --list` names the line") from None
    name = parser.get("core", "remote", fallback="")
    sections = (f"'remote \"{name}\"'", f'remote "{name}"')
    url = next((parser.get(section, "url", fallback="") for section in sections if parser.has_section(section)), "")
    if not url:
        raise errors.InvalidError(f"{CONFIG} names no default remote with a URL; set one with `dvc remote add -d`")
    return url


def _listed(path: str, listed: object, folder: str) -> Iterator[Output]:
    for item in listed if isinstance(listed, list) else ():
        value = item.get("md5") if isinstance(item, dict) else None
        if not isinstance(value, str):
            continue  # another kind of output, such as one outside DVC's cache
        if not HASH.fullmatch(value):
            raise errors.InvalidError(f"{path}: {value[:100]!r} is not the hash of an output")
        output = posixpath.normpath(posixpath.join(folder, _text(path, "path", item.get("path", ""))))
        if output.startswith(("../", "/")) or output in (".", ".."):
            raise errors.InvalidError(f"{path}: the output {output[:200]!r} lies outside the codeset")
        yield Output(output, value, _count(item.get("size")), _count(item.get("nfiles")), item.get("hash") != "md5")


def _text(path: str, field: str, value: object) -> str:
    # Never str(value): lists of aliases in one kilobyte of YAML are gigabytes of text.
    if not isinstance(value, str):
        raise errors.InvalidError(f"{path}: a value of {field!r} is not text")
    return value


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _mapping(path: str, text: bytes) -> Mapping[str, Any]:
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise errors.InvalidError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(document, dict):
        raise errors.InvalidError(f"{path} is not a mapping")
    return document
