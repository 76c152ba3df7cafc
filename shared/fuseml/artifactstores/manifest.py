"""The manifest of an artifact in a bucket: the paths, sizes and digests of its files. Its own digest is the version.

Equal files give an equal manifest: the text is canonical (JSON with sorted keys and paths, no spaces).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from fuseml.artifactstores import paths
from fuseml.artifactstores.port import File
from fuseml.domain import artifact, errors

FORMAT = "fuseml.files/1"
LARGEST = 256 << 20
"""Bytes of a manifest."""

_PREFIX = "sha256:"


def encode(files: Sequence[File]) -> bytes:
    """The manifest of these files. Raises InvalidError for invalid paths."""
    paths.check_paths(file.path for file in files)
    listed = [
        {"path": file.path, "size": file.size, "digest": file.digest, **({"executable": True} if file.executable else {})}
        for file in sorted(files, key=lambda file: file.path)
    ]
    return json.dumps({"format": FORMAT, "files": listed}, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(encoded: bytes) -> str:
    """The version that a manifest stands for: `sha256:...`."""
    return _PREFIX + hashlib.sha256(encoded).hexdigest()


def decode(encoded: bytes, version: str) -> list[File]:
    """The files of the manifest. Raises PermanentError unless it is a valid manifest with the digest `version`."""
    if digest(encoded) != version:
        raise errors.PermanentError(f"the manifest of {version} is damaged in the store; restore it, or write the artifact again")
    try:
        document = json.loads(encoded)
        if document["format"] != FORMAT:
            raise ValueError(f"unknown format {document['format']!r:.100}")
        files = [_file(item) for item in document["files"]]
        paths.check_paths(file.path for file in files)
    except (KeyError, TypeError, ValueError, RecursionError, errors.InvalidError) as error:
        raise errors.PermanentError(f"{version} is not the manifest of an artifact: {error}") from error
    return files


def hexadecimal(version: str) -> str:
    """The digits of a version. Raises InvalidError for text that is no version of a bucket."""
    if not re.fullmatch(artifact.DIGEST, version):
        raise errors.InvalidError(f"{version[:100]!r} is not the digest of a manifest (sha256: and 64 hexadecimal digits)")
    return version.removeprefix(_PREFIX)


def _file(item: dict[str, object]) -> File:
    path, size, content, executable = item["path"], item["size"], item["digest"], item.get("executable", False)
    if not (isinstance(path, str) and isinstance(content, str) and re.fullmatch(artifact.DIGEST, content)):
        raise ValueError(f"path or digest of {path!r:.100}")
    if not (isinstance(size, int) and not isinstance(size, bool) and size >= 0 and isinstance(executable, bool)):
        raise ValueError(f"size or mode of {path!r:.100}")
    return File(path, size, content, executable)
