"""Objects of Google Cloud Storage, through gcsfs (extra `gcs`), which is imported with the first call."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from fuseml.contents.object_store import PART, Object, refused
from fuseml.domain import errors

KEY = "GOOGLE_APPLICATION_CREDENTIALS"
"""The key of a record with the account: the text of its JSON file, which a step may get as a file."""

SERVER = "STORAGE_EMULATOR_HOST"
"""The key of a record with the URL of another server than Google's."""

_LISTED = 1000


class GoogleObjects:
    """See `Objects`. Without an `account` the identity of the pod counts and, with a `server`, no account."""

    def __init__(self, bucket: str, account: str = "", server: str = "") -> None:
        self.at = f"the bucket {bucket!r} of Google Cloud Storage"
        self._bucket, self._account, self._server = bucket, account, server

    def read(self, path: str, start: int, end: int) -> bytes:
        """See `Objects.read`."""
        try:
            return bytes(self._files.cat_file(self._path(path), start=start, end=end))
        except Exception as error:
            if getattr(error, "code", None) == 416:
                return b""
            raise

    def write(self, path: str, data: bytes, *, new: bool) -> None:
        """See `Objects.write`."""
        self._files.pipe_file(self._path(path), data, mode="create" if new else "overwrite")

    def upload(self, path: str, parts: Iterator[bytes]) -> None:
        """See `Objects.upload`. A resumable upload, of which nothing is visible before its end."""
        file = self._files.open(self._path(path), "wb", block_size=PART)
        try:
            for part in parts:
                file.write(part)
        except BaseException:
            # To close it would finish the upload.
            file.closed = True
            raise
        file.close()

    def find(self, path: str) -> Object:
        """See `Objects.find`."""
        found = self._files.info(self._path(path))
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return self._object(found["name"].partition("/")[2], found["size"], found["updated"])

    def remove(self, path: str) -> None:
        """See `Objects.remove`."""
        self._files.rm_file(self._path(path))

    def list(self, prefix: str, after: str, limit: int) -> Sequence[Object]:
        """See `Objects.list`. gcsfs lists whole folders, so this asks the API for a page."""
        found: list[Object] = []
        start = after
        while len(found) < limit:
            # The offset itself belongs to the answer.
            asked = min(limit - len(found) + 1, _LISTED)
            offset = {"startOffset": start} if start else {}
            answer = self._files.call("GET", "b/{}/o", self._bucket, prefix=prefix, maxResults=asked, json_out=True, **offset)
            items = answer.get("items", [])
            fresh = [self._object(item["name"], item["size"], item["updated"]) for item in items if item["name"] != start]
            found += fresh
            if not fresh or not answer.get("nextPageToken"):
                break
            start = fresh[-1].path
        return found[:limit]

    def touch(self, path: str) -> None:
        """See `Objects.touch`: a copy onto itself, within the store."""
        self._files.cp_file(self._path(path), self._path(path))

    def link(self, path: str, seconds: int) -> str:
        """See `Objects.link`."""
        return str(self._files.sign(self._path(path), expiration=seconds, version="v4"))

    def refusal(self, error: Exception) -> errors.FusemlError | None:
        """See `Objects.refusal`."""
        import aiohttp
        import requests
        from gcsfs import retry
        from google.auth import exceptions

        name = type(error).__name__
        if isinstance(error, retry.HttpError):
            return refused(int(error.code or 0), str(error.code), KEY)
        if isinstance(
            error, exceptions.TransportError | aiohttp.ClientError | requests.RequestException | TimeoutError | retry.ChecksumError
        ):
            return errors.TemporaryError(f"it cannot be reached ({name})")
        if isinstance(error, exceptions.GoogleAuthError | AttributeError | ValueError | PermissionError):
            return errors.PermanentError(f"the account is refused or cannot do it ({name}): check {KEY}")
        if isinstance(error, OSError):
            # gcsfs raises plain errors for a refused account.
            return refused(403, "Forbidden", KEY) if "orbidden" in str(error) else errors.TemporaryError(f"it cannot be reached ({name})")
        return None

    def _object(self, path: str, size: int | str, updated: str) -> Object:
        return Object(path, int(size), datetime.datetime.fromisoformat(updated).timestamp())

    def _path(self, path: str) -> str:
        return f"{self._bucket}/{path}"

    def _token(self) -> object:
        """The account as gcsfs takes it. Raises PermanentError for one that is no JSON object."""
        if not self._account:
            return "anon" if self._server else "cloud"
        try:
            token = json.loads(self._account)
        except ValueError:
            token = None
        if not isinstance(token, dict):
            raise errors.PermanentError(f"{KEY} must hold the text of the account's JSON file, as ${{file:key.json}} reads it")
        return token

    @functools.cached_property
    def _files(self) -> Any:
        try:
            # Not `gcsfs.GCSFileSystem`: that asks for the type of each bucket by gRPC, also where a server has none.
            from gcsfs.core import GCSFileSystem
        except ImportError:
            raise errors.PermanentError("Google Cloud Storage needs gcsfs: install fuseml[gcs]") from None

        token = self._token()
        try:
            return GCSFileSystem(
                token=token, endpoint_url=self._server or None, use_listings_cache=False, skip_instance_cache=True, requests_timeout=30
            )
        except (ValueError, KeyError):
            # Also of a key that cannot be parsed, and of `cloud` on a machine without a metadata server.
            raise errors.PermanentError(f"there is no account for Google Cloud Storage: check {KEY}, or give the pod an identity") from None
