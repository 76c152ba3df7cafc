"""Calls in the code of a codeset, found without executing it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".py", ".ipynb")
_NO_CODE = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
_MOST_FILES = 2_000
_MOST_BYTES = 4 << 20


def find(folder: Path, function: str) -> str:
    """The place (`train.py:12`) of the first call of the function below `folder`, outside comments; empty without one."""
    call = re.compile(rf"^[^#\n]*\b{re.escape(function)}\s*\(", re.MULTILINE)
    for path in _files(folder):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MOST_BYTES)
        except OSError:
            continue  # gone, or not readable for the code either
        match = call.search(text)
        if match:
            name = path.relative_to(folder).as_posix()
            return name if path.suffix == ".ipynb" else f"{name}:{text.count(os.linesep, 0, match.end()) + 1}"
    return ""


def _files(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_CODE)
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix in _SUFFIXES and path.is_file() and not path.is_symlink():
                seen += 1
                if seen > _MOST_FILES:
                    return
                yield path
