"""The configuration file: the server's URL and token, and the current project and codeset. Files of the original are read, too."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fuseml.domain import errors

# The original's names of entries; it wrote all names in lower case.
_ORIGINAL = {
    "currentproject": "project",
    "currentcodeset": "codeset",
    "currentuser": "user",
    "username": "user",
    "currentpassword": "password",
}


def default_file(environment: Mapping[str, str]) -> Path:
    """`fuseml/config.yaml` in the folder that XDG_CONFIG_HOME names, `~/.config` by default."""
    folder = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or Path.home()) / ".config"
    return Path(folder) / "fuseml" / "config.yaml"


def former_file(environment: Mapping[str, str]) -> Path:
    """The file that former versions wrote, in the user's configuration folder of the platform."""
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        return Path(platformdirs.user_config_dir("fuseml")) / "config.json"
    return default_file(environment).with_name("config.json")


def read(file: Path) -> dict[str, object]:
    """The entries of a file by name, the original's under today's names; none without a file.

    Raises InvalidError for anything but a YAML or JSON object, ForbiddenError for a file that the user cannot read.
    """
    text = text_of(file)
    data = _parsed(file, text) if text else {}
    named = {str(name).lower(): value for name, value in data.items() if value is not None}
    return {**{_ORIGINAL[name]: value for name, value in named.items() if name in _ORIGINAL}, **_without(named, _ORIGINAL)}


def write(file: Path, entries: Mapping[str, object]) -> None:
    """Replace a file, which only the user can read. A name that ends with `.json` makes it JSON, any other one YAML."""
    if file.suffix == ".json":
        text = json.dumps(entries, indent=2) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(dict(entries), sort_keys=False, allow_unicode=True) if entries else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The new file is written beside the old one and renamed: a crash leaves the old file, and the token is private at every moment.
    new_file = file.with_suffix(".new")
    with os.fdopen(os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    new_file.replace(file)


def text_of(file: Path) -> str:
    """The stripped text of a file; empty without one. Raises ForbiddenError for a file that the user cannot read."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
    except PermissionError:
        raise errors.ForbiddenError(f"{file} is not readable for this user; change its permissions") from None


def _parsed(file: Path, text: str) -> dict[object, object]:
    try:
        # JSON is YAML, and read in a fraction of the time.
        data = json.loads(text) if text.startswith("{") else _yaml(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise errors.InvalidError(f"{file} is not a configuration file; repair or delete it")
    return data


def _yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _without(entries: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    return {name: value for name, value in entries.items() if name not in names}
