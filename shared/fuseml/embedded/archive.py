"""The file of a backup: a compressed tar of regular files, with a description first and a manifest of digests last.

Reading never follows what the file says: it yields names and bytes within bounds, and refuses all but regular files with plain names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pathlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from fuseml.domain import errors

DESCRIPTION, MANIFEST = "fuseml-backup.json", "fuseml-manifest.json"
FORMAT = 1
_BLOCK, _CHUNK = tarfile.BLOCKSIZE, 1 << 20
_LONGEST_NAME = 4096
_MOST_FILES = 5_000_000
_LARGEST_MANIFEST = 1 << 30
_LARGEST_DESCRIPTION = 1 << 16
_COMPRESSION = 1


@dataclass
class Writer:
    """Writes a backup to a file. `close` adds the manifest, with the names of `folders` that may have no file."""

    file: IO[bytes]
    description: Mapping[str, object]
    digests: dict[str, tuple[int, str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._gzip = gzip.GzipFile(fileobj=self.file, mode="wb", compresslevel=_COMPRESSION, filename="", mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed by `close`
        self._add_text(DESCRIPTION, {"format": FORMAT, **self.description})

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        """Add `size` bytes of a file. Raises TemporaryError when it has fewer."""
        digest = hashlib.sha256()
        reader = _Measured(source, digest)
        try:
            self._tar.addfile(_info(name, size), reader)
        except OSError as error:
            if reader.missing:
                raise errors.TemporaryError(f"{name} became shorter while it was copied; make the backup again") from error
            raise
        self.digests[name] = size, digest.hexdigest()

    def close(self) -> None:
        """Complete the backup."""
        files = {name: {"size": size, "sha256": digest} for name, (size, digest) in self.digests.items()}
        self._add_text(MANIFEST, {"files": files, "folders": sorted(self.folders)})
        self._tar.close()
        self._gzip.close()

    def _add_text(self, name: str, content: Mapping[str, object]) -> None:
        text = json.dumps(content).encode()
        self._tar.addfile(_info(name, len(text)), io.BytesIO(text))


class _Measured:
    """A source whose read bytes are digested."""

    def __init__(self, source: IO[bytes], digest: hashlib._Hash) -> None:
        self._source, self._digest = source, digest
        self.missing = False

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.missing = self.missing or len(data) < size
        self._digest.update(data)
        return data


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class Entry:
    """A file of a backup that is being read. `blocks` yields its bytes, and must be exhausted before the next entry."""

    def __init__(self, name: str, size: int, blocks: Iterator[bytes]) -> None:
        self.name, self.size, self.blocks = name, size, blocks


class _Stream:
    """The unpacked bytes of a file. Raises InvalidError for damage."""

    def __init__(self, unpacked: gzip.GzipFile) -> None:
        self._unpacked = unpacked

    def read(self, size: int) -> bytes:
        try:
            return self._unpacked.read(size)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise _damaged(str(error)) from error


def read(path: pathlib.Path) -> Iterator[Entry]:
    """The description, the files, and the manifest. Raises InvalidError for a file that is damaged, or is no backup."""
    try:
        with path.open("rb") as file, gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            yield from _entries(_Stream(unpacked))
    except (tarfile.TarError, ValueError) as error:
        raise _damaged(str(error)) from error


def _entries(stream: _Stream) -> Iterator[Entry]:
    names: set[str] = set()
    long_name = ""
    while (block := _exactly(stream, _BLOCK)) != bytes(_BLOCK):
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if info.type == tarfile.GNUTYPE_LONGNAME and info.size <= _LONGEST_NAME:
            long_name = _exactly(stream, _padded(info.size))[: info.size].rstrip(b"\0").decode()
            continue
        name, long_name = long_name or info.name, ""
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
            raise _damaged(f"{name!r} is no regular file")
        if not is_plain(name) or name in names:
            raise _damaged(f"{name!r} is no name of a file in a backup")
        names.add(name)
        if len(names) > _MOST_FILES:
            raise _damaged(f"it holds more than {_MOST_FILES:,} files")
        blocks = _blocks(stream, info.size)
        yield Entry(name, info.size, blocks)
        for _ in blocks:
            raise errors.PermanentError(f"{name!r} was not read to its end")
    # tarfile fills the last record of 20 blocks.
    while rest := stream.read(_BLOCK):
        if rest.strip(b"\0"):
            raise _damaged("there is more behind its end")


def _blocks(stream: _Stream, size: int) -> Iterator[bytes]:
    left = size
    while left:
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise _damaged("it ends early")
        left -= len(data)
        yield data
    _exactly(stream, _padded(size) - size)


def _exactly(stream: _Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise _damaged("it ends early")
        data += more
    return data


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def is_plain(name: str) -> bool:
    """Whether it is the relative name of a file below a folder."""
    parts = name.split("/")
    return len(name) <= _LONGEST_NAME and name.isprintable() and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


def text_of(entry: Entry) -> dict[str, object]:
    """The content of the description or the manifest. Raises InvalidError."""
    limit = _LARGEST_MANIFEST if entry.name == MANIFEST else _LARGEST_DESCRIPTION
    if entry.size > limit:
        raise _damaged(f"{entry.name} is too large")
    try:
        content = json.loads(b"".join(entry.blocks))
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{entry.name} cannot be read") from error
    if not isinstance(content, dict):
        raise _damaged(f"{entry.name} cannot be read")
    return content


def _damaged(reason: str) -> errors.InvalidError:
    return errors.InvalidError(f"the file is damaged, or no backup of FuseML: {reason}; nothing was restored")
