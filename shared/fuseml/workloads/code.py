"""The files of a codeset for tools that take a copy: the checkout without the history of git. Equal files give equal archives."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseml.steps import sdk

MOST = 100 << 20
"""Bytes of all files of a copy: the default limit of Ray."""
_LEFT_OUT = {".git"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class File:
    """A regular file: its path within the copy, its content, and whether it is executable."""

    path: str
    content: bytes
    is_executable: bool = False

    @property
    def mode(self) -> int:
        """Type and permissions."""
        return stat.S_IFREG | (0o755 if self.is_executable else 0o644)


def files(folder: Path) -> Iterator[File]:
    """The files below the folder, sorted. Links within it become files, others are refused. Raises StepError, also for too many bytes."""
    top, total = Path(os.path.realpath(folder)), 0
    for at, names, found in os.walk(top):
        names[:] = sorted(name for name in names if name not in _LEFT_OUT)
        for name in sorted(found + [name for name in names if Path(at, name).is_symlink()]):
            path = Path(at, name)
            real = Path(os.path.realpath(path))
            shown = path.relative_to(top).as_posix()
            if not real.is_relative_to(top):
                raise sdk.StepError(
                    f"the link '{shown}' leads out of the codeset, so the job would not find its file; replace it by the file"
                )
            if path.is_symlink() and real.is_dir():
                raise sdk.StepError(f"the link '{shown}' is one of a folder, which a job does not get; replace it by the folder")
            if not real.is_file():
                continue
            total += real.stat().st_size
            if total > MOST:
                raise sdk.StepError(f"the codeset has more than {MOST >> 20} MiB; keep data and models outside of it, as artifacts")
            yield File(shown, real.read_bytes(), os.access(real, os.X_OK))


def archive(found: list[File]) -> bytes:
    """The files as a zip archive."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in found:
            entry = zipfile.ZipInfo(file.path, _EPOCH)
            entry.external_attr = file.mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, file.content)
    return written.getvalue()
