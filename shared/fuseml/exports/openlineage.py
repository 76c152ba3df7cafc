"""The receiver of OpenLineage events: `POST URL/api/v1/lineage`."""

from __future__ import annotations

import functools
import json
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fuseml.domain import errors, urls

if TYPE_CHECKING:
    import urllib3

_PATH = "/api/v1/lineage"
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 5.0
# The endpoint judges the event itself; every other status is a state or a setting of the endpoint, which may change.
_REFUSALS = frozenset({400, 413, 422})
_SHOWN = 200


class Receiver:
    """Posts events below `url`. `token` is sent as a bearer token, to that host only."""

    def __init__(self, url: str, token: str = "") -> None:
        """Raises PermanentError for anything but an HTTP URL without an account."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise errors.PermanentError(f"FUSEML_OPENLINEAGE_URL: {urls.shown(url)[:_SHOWN]!r} is not the address of an HTTP server")
        if "@" in parts.netloc:
            raise errors.PermanentError("FUSEML_OPENLINEAGE_URL holds an account; give a token as FUSEML_OPENLINEAGE_TOKEN")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise errors.PermanentError("FUSEML_OPENLINEAGE_TOKEN holds a character that no header may have")
        self.url = url.rstrip("/")
        self._token = token

    @functools.cached_property
    def _pool(self) -> urllib3.PoolManager:
        import urllib3

        return urllib3.PoolManager(retries=False, maxsize=1, timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS))

    def send(self, event: Mapping[str, Any]) -> None:
        """Raises InvalidError for an event that the endpoint refuses, TemporaryError when the endpoint does not accept events now."""
        import urllib3

        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
        try:
            # The body of the answer is not needed, and unbounded.
            answer = self._pool.request("POST", self.url + _PATH, body=body, headers=headers, preload_content=False, redirect=False)
            answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the OpenLineage endpoint {self.url} does not answer: {type(error).__name__}") from error
        if answer.status in _REFUSALS:
            raise errors.InvalidError(f"the OpenLineage endpoint {self.url} refuses the event with status {answer.status}")
        if answer.status >= 300:
            raise errors.TemporaryError(f"the OpenLineage endpoint {self.url} answers with status {answer.status}")
