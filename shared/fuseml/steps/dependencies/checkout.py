"""The files of a codeset, as dependency files name them."""

from __future__ import annotations

import codecs
import hashlib
import os
import posixpath
import stat
from pathlib import Path
from typing import Protocol

from fuseml.steps import sdk

# No part of a project: version control, environments, caches, and at its top the results of builds.
_IGNORED = {".git", ".hg", ".venv", "venv", "__pycache__", ".tox", ".mypy_cache", ".pytest_cache", ".ipynb_checkpoints"}
_RESULTS = {"build", "dist"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Files(Protocol):
    """The files of a codeset, by paths relative to the folder of the step, which is `above` levels below the codeset's root."""

    @property
    def above(self) -> int: ...

    def names(self) -> list[str]:
        """The names in the codeset's folder, sorted."""

    def has(self, path: str) -> bool:
        """Whether there is a file or folder."""

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder."""

    def read(self, path: str) -> str:
        """The text of a file. Raises StepError."""

    def digest(self, path: str) -> str:
        """A digest of a file, or of a folder with all that is below it. Raises StepError."""


class Folder:
    """The files of a checkout below `folder`, with those above it up to `root`, the codeset's root."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder, self.root = folder, root or sdk.codeset_root(folder)

    @property
    def above(self) -> int:
        return len(self.folder.relative_to(self.root).parts)

    def names(self) -> list[str]:
        return sorted(file.name for file in self.folder.iterdir())

    def has(self, path: str) -> bool:
        return (self.folder / path).exists()

    def is_folder(self, path: str) -> bool:
        return (self.folder / path).is_dir()

    def read(self, path: str) -> str:
        return decoded(sdk.read_bytes(self.folder, path, self.root), path)

    def digest(self, path: str) -> str:
        top = self.folder / path
        if not top.is_dir():
            return _digest(top)
        digest = hashlib.sha256()
        for folder, folders, files in os.walk(top):
            ignored = _IGNORED | _RESULTS if Path(folder) == top else _IGNORED
            folders[:] = sorted(name for name in folders if name not in ignored and not name.endswith(".egg-info"))
            for name in sorted(files):
                file = Path(folder, name)
                digest.update(f"{file.relative_to(top).as_posix()}\0{_digest(file)}\0".encode())
        return digest.hexdigest()


def _digest(file: Path) -> str:
    if file.is_symlink():
        return f"link to {file.readlink()}"
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "no file"
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise sdk.StepError(f"cannot read {file.name} of the codeset: {error.strerror}") from error


def decoded(content: bytes, path: str) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte order mark names. Raises StepError."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise sdk.StepError(f"{path}: line {line}: is not {encoding.upper()} text; save the file as UTF-8") from None


def joined(folder: str, path: str, key: str, above: int = 0) -> str:
    """The path of `path` relative to `folder`, relative to the folder of the step, which is `above` levels below the codeset's root.

    Raises StepError, naming `key`, for a path outside the codeset.
    """
    inside = posixpath.normpath(posixpath.join(folder, path))
    if inside.startswith("/") or inside.split("/").count("..") > above:
        raise sdk.StepError(f"{key}: '{path}' is outside the codeset; use a file of the codeset")
    return inside
