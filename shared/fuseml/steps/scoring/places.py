"""Places of datasets: a path of the codeset, file:///PATH, s3://BUCKET/KEY, and http(s):// to read only.

A dataset is read as a stream, and written so that it appears whole or not at all: a file by its new name, an object of S3 by the completion of its
upload. A step that is killed leaves a hidden partial file, which the next attempt replaces, or an invisible incomplete upload, which a
lifecycle rule of the bucket removes. The account of S3 comes from the variables of its clients (AWS_..., MLFLOW_S3_ENDPOINT_URL).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fuseml.steps import sdk
from fuseml.steps.scoring import s3

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SECONDS = 60.0


class Destination:
    """A dataset that is being written: `size` bytes so far, with the digest `digest`."""

    closed = False  # pyarrow asks

    def __init__(self, write: Any) -> None:
        self._write, self._hash = write, hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._write(block)
        self._hash.update(block)
        self.size += len(block)
        return len(block)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """The place decides when data are stored."""

    def close(self) -> None:
        """The place ends the dataset, after the writer of its format."""

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextlib.contextmanager
def reading(place: str, folder: Path) -> Iterator[BinaryIO]:
    """The dataset at `place` as a stream; a path is relative to `folder`. Raises StepError, also for a stream that breaks off."""
    scheme = _parts(place).scheme if "://" in place else ""
    with contextlib.ExitStack() as stack:
        if scheme in ("", "file"):
            stream: BinaryIO = stack.enter_context(_opened(_path(place, folder), place))
        elif scheme == "s3":
            stream = stack.enter_context(s3.downloaded(place))
        elif scheme in ("http", "https"):
            stream = stack.enter_context(_fetched(place))
        else:
            raise sdk.StepError(f"'{sdk.redact(place)}' is no place of a dataset: use a path of the codeset, file://, s3:// or http(s)://")
        try:
            yield stream
        except (OSError, HTTPException) as error:
            raise sdk.StepError(f"{sdk.redact(place)}: reading broke off: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def writing(place: str, folder: Path) -> Iterator[Destination]:
    """A destination whose dataset appears at `place` when the block ends, and does not if it raises. Raises StepError."""
    scheme = _parts(place).scheme if "://" in place else ""
    if scheme == "s3":
        with s3.uploaded(place) as write:
            yield Destination(write)
    elif scheme in ("", "file"):
        with _renamed(_path(place, folder), place) as destination:
            yield destination
    else:
        raise sdk.StepError(f"'{sdk.redact(place)}' cannot hold a result: use a path of the codeset, file:// or s3://")


def _parts(place: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(place)
    except ValueError as error:
        raise sdk.StepError(f"'{sdk.redact(place)}' is no place of a dataset: {error}") from None


def _path(place: str, folder: Path) -> Path:
    """The path of a local place. Raises StepError for one that leaves the codeset."""
    if "://" in place:
        parts = _parts(place)
        path = urllib.parse.unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.strip("/") or "\0" in path:
            raise sdk.StepError(f"'{place}' is no file: write file:///absolute/path")
        return Path(path)
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / place))
    if root not in target.parents:
        raise sdk.StepError(f"'{place}' is outside the codeset; use a path of the codeset, or file:// for other files of the machine")
    return target


def _opened(path: Path, place: str) -> BinaryIO:
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except OSError as error:
        raise sdk.StepError(f"cannot read '{place}': {error.strerror}") from error
    if not path.is_file():
        file.close()
        raise sdk.StepError(f"cannot read '{place}': it is not a regular file")
    return file


@contextlib.contextmanager
def _renamed(path: Path, place: str) -> Iterator[Destination]:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Truncated only under the lock: another writer may have it.
        file = open(partial, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))  # noqa: SIM115
    except OSError as error:
        raise sdk.StepError(f"cannot write '{place}': {error.strerror}") from error
    with file:
        _lock(file, partial, place)
        try:
            file.truncate(0)
            yield Destination(file.write)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise sdk.StepError(f"cannot write '{place}': {error.strerror or error}") from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _lock(file: BinaryIO, partial: Path, place: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A writer that has just finished has given this file its final name.
        is_ours = partial.exists() and os.path.samestat(partial.stat(), os.fstat(file.fileno()))
    except BlockingIOError:
        is_ours = False
    if not is_ours:
        raise sdk.StepError(f"another step writes '{place}' at this moment: give each its own output, or wait")


class _Response(io.RawIOBase):
    """The body of an HTTP response. Raises HTTPException for one that ends before its announced length, which urllib does not notice."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._left = -1 if response.length is None else response.length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        block = self._response.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(block)] = block
        if self._left >= 0:
            self._left -= len(block)
            if not block and self._left > 0:
                raise HTTPException(f"{self._left} bytes are missing")
        return len(block)


@contextlib.contextmanager
def _fetched(place: str) -> Iterator[BinaryIO]:
    if "@" in _parts(place).netloc:
        raise sdk.StepError(
            f"{sdk.redact(place)}: a place holds no account: give the step an extension with the resource s3, and use s3://"
        )
    try:
        response = urllib.request.urlopen(place, timeout=_SECONDS)  # noqa: S310 (the scheme is checked above)
    except urllib.error.HTTPError as error:
        raise sdk.StepError(f"GET {sdk.redact(place)}: {error.code}: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: characters that no URL has
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise sdk.StepError(f"GET {sdk.redact(place)}: no answer ({reason})") from error
    with response:
        yield io.BufferedReader(_Response(response), 1 << 20)
