"""The digest of a model: SHA-256 over the relative paths and contents of the files in its folder. Equal files give an equal digest anywhere.

Only the standard library, as in `sdk`, but for `of_address`. `MLmodel` counts, so a changed flavour or signature is another digest; the file that
MLflow writes beside it when it downloads a registered version does not.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

PREFIX = "sha256:"
_WRITTEN_BY_DOWNLOADS = frozenset({"registered_model_meta"})
_BLOCK = 1 << 20


def of_folder(folder: Path) -> str:
    """The digest of the files below `folder`; that of a file is the one of a folder with it alone. Raises OSError, and ValueError for what is
    neither a folder nor a regular file."""
    if folder.is_file():
        return of_digests({folder.name: _of_file(folder)})
    return of_digests({name: _of_file(path) for name, path in _files(folder)})


def of_digests(files: Mapping[str, bytes]) -> str:
    """The digest of a model with these files: relative path -> SHA-256 of the contents (32 bytes)."""
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        if name in _WRITTEN_BY_DOWNLOADS:
            continue
        # Lengths first: two different sets of files never give the same input.
        encoded = name.encode("utf-8", "surrogateescape")
        whole.update(len(encoded).to_bytes(8, "big") + encoded + content)
    return PREFIX + whole.hexdigest()


def of_address(uri: str) -> str:
    """The digest of the model at an address, whose files MLflow downloads. MLflow and its stores raise many types."""
    # Imported here: it costs seconds.
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as folder:
        return of_folder(Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder)))


def _files(folder: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ValueError(f"the model has a file that is neither regular nor a folder: {path.relative_to(folder)}")
        found += [(Path(place, name).relative_to(folder).as_posix(), Path(place, name)) for name in names]
    return found


def _of_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
