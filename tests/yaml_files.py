"""YAML files of the repository, read by libyaml where it is: each worker reads them when it collects the tests."""

from __future__ import annotations

import pathlib
from typing import Any

import yaml

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def document(path: pathlib.Path) -> Any:
    """The only document of the file."""
    return yaml.load(path.read_text(), _Loader)


def documents(path: pathlib.Path) -> list[Any]:
    """The documents of the file, without empty ones."""
    return [document for document in yaml.load_all(path.read_text(), _Loader) if document]
