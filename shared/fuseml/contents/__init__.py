"""Where contents live that are too large for the database: logs of runs. Models stay in stores of their own, such as MLflow's."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from fuseml.domain import errors
from fuseml.runtime.settings import Settings

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_LONGEST_KEY = 500

BLOCK = 1 << 18
"""Bytes that are read at a time."""


class Contents(Protocol):
    """Keeps bytes under keys such as `runs/1f0c/trainer.log`.

    Nothing is ever held in memory as a whole. Every call raises InvalidError for what cannot be a key, TemporaryError when the store cannot
    be reached or is busy, and PermanentError when the same call cannot succeed.
    """

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """Keep what the blocks hold, instead of what was there; the number of bytes.

        Whole or not at all: nobody ever reads a part, also when the process dies, or when `blocks` raises, which is passed on.
        """

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """The bytes from `offset` on, at most `limit`, in blocks; none behind the end. Raises NotFoundError, with the first block at the latest."""

    def size(self, key: str) -> int:
        """The number of bytes. Raises NotFoundError."""

    def delete(self, key: str) -> None:
        """Forget what is there, if anything is."""

    def link(self, key: str, seconds: int) -> str:
        """A URL that needs no account for so many seconds; of a folder, one that this machine can open. Whether anything is there is not looked at."""


def checked(key: str) -> str:
    """The key. Raises InvalidError for one that not every store could keep, or that would lead out of a folder."""
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise errors.InvalidError(
            f"{key[:100]!r} cannot be a key of contents: parts of letters, digits, '_', '-' and '.', none of which begins with '-' or '.',"
            f" joined by '/', at most {_LONGEST_KEY} characters"
        )
    return key


def connect(settings: Settings) -> Contents | None:
    """The store at `FUSEML_CONTENTS_URL`, None where that is unset. Connects at the first use. Raises PermanentError for a wrong URL."""
    if not settings.contents_url:
        return None
    # The URL is in no message: somebody may have written a password into it.
    try:
        url = urllib.parse.urlsplit(settings.contents_url)
    except ValueError:
        raise errors.PermanentError("FUSEML_CONTENTS_URL is no URL") from None
    if url.query or url.fragment or "@" in url.netloc:
        raise errors.PermanentError(
            "FUSEML_CONTENTS_URL must hold no account and nothing behind the path; credentials have variables of their own"
        )
    if url.scheme == "file" and not url.netloc and url.path.startswith("/"):
        from fuseml.contents import filesystem

        return filesystem.FileContents(Path(urllib.parse.unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        from fuseml.contents import s3

        account = s3.Account(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            addressing=settings.s3_addressing,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            session_token=settings.s3_session_token,
        )
        return s3.S3Contents(url.netloc, url.path.strip("/"), account)
    raise errors.PermanentError("FUSEML_CONTENTS_URL must be s3://BUCKET/PREFIX or file:///FOLDER")
