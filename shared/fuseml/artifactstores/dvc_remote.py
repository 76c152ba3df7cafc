"""The remote of DVC, as the record of the store names it: a folder, a bucket, or a web server. Its objects lie under their hashes."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuseml.contents import BLOCK, Contents, azure_blob, filesystem, gcs, object_store, s3
from fuseml.domain import errors, urls

_TIMEOUT = 30.0


class Remote:
    """The remote at `url` (`file:///FOLDER`, `s3://`, `gs://` or `azure://BUCKET/PREFIX`, `http(s)://...`) or a place below it, with the variables of the record.

    The configuration of a codeset never adds a place: who can push would read the machine's files, or have its requests signed.
    """

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._variables = variables
        self._opened: dict[str, Contents] = {}

    def place(self, configured: str) -> str:
        """The URL of the remote that a codeset configures. Raises InvalidError unless it is this one or below it."""
        url = configured if "://" in configured else f"file://{urllib.parse.quote(configured)}" if configured.startswith("/") else ""
        # Decoded, because the path of a folder is decoded where it is opened.
        plain = {".", ".."}.isdisjoint(urllib.parse.unquote(url).split("/"))
        below = url.rstrip("/") == self._url or url.startswith(f"{self._url}/")
        if not (url and below and plain and "?" not in url and "#" not in url and "@" not in url):
            raise errors.InvalidError(
                f"the codeset's remote of DVC, {urls.shown(configured)[:200]!r}, is not the one of the store's record, {urls.shown(self._url)}"
            )
        return url.rstrip("/")

    def blocks(self, place: str, hash: str, *, is_legacy: bool) -> Iterator[bytes]:
        """The bytes of an object. Raises NotFoundError, TemporaryError, PermanentError."""
        key = f"{hash[:2]}/{hash[2:]}" if is_legacy else f"files/md5/{hash[:2]}/{hash[2:]}"
        if place.startswith(("http://", "https://")):
            return _fetched(f"{place}/{key}")
        return self._contents(place).get(key)

    def _contents(self, place: str) -> Contents:
        if place not in self._opened:
            parts = urllib.parse.urlsplit(place)
            if parts.scheme == "file" and not parts.netloc:
                self._opened[place] = filesystem.FileContents(Path(urllib.parse.unquote(parts.path)))
            elif parts.scheme == "s3" and parts.netloc:
                self._opened[place] = s3.S3Contents(parts.netloc, parts.path.strip("/"), s3.Account.of(self._variables))
            elif parts.scheme == "gs" and parts.netloc:
                objects = gcs.GoogleObjects(parts.netloc, self._variables.get(gcs.KEY, ""), self._variables.get(gcs.SERVER, ""))
                self._opened[place] = object_store.ObjectContents(objects, parts.path.strip("/"))
            elif parts.scheme == "azure" and parts.netloc:
                container = azure_blob.AzureObjects(parts.netloc, azure_blob.connection_string(self._variables))
                self._opened[place] = object_store.ObjectContents(container, parts.path.strip("/"))
            else:
                raise errors.InvalidError(f"a remote of DVC is a folder, a bucket or a web server, not {urls.shown(place)[:200]!r}")
        return self._opened[place]


def _fetched(url: str) -> Iterator[bytes]:
    import urllib3
    import urllib3.exceptions

    try:
        response = urllib3.request("GET", url, preload_content=False, retries=False, redirect=False, timeout=_TIMEOUT)
        with contextlib.closing(response):
            if response.status == 404:
                raise errors.NotFoundError(f"the remote of DVC has no {url.rpartition('/files/')[2]}")
            if response.status != 200:
                kind = errors.TemporaryError if response.status >= 500 or response.status == 429 else errors.PermanentError
                raise kind(f"the remote of DVC answered {response.status}")
            yield from response.stream(BLOCK)
    except urllib3.exceptions.HTTPError as error:
        raise errors.TemporaryError(f"the remote of DVC does not answer ({type(error).__name__})") from None
