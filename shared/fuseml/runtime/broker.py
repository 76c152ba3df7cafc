"""Publishing to Knative's broker: HTTP, binary mode, with retries. (The embedded broker is the other publisher.)"""

from __future__ import annotations

import random
import socket
import time
import urllib.parse
from typing import TYPE_CHECKING

from fuseml.domain import errors, events, urls
from fuseml.runtime import cloudevents

if TYPE_CHECKING:
    import urllib3

_ATTEMPTS = 5
_FIRST_DELAY = 0.1
_RETRIED = frozenset({404, 408, 409, 425, 429, 500, 502, 503, 504})
# One for each thread that publishes: a further connection would be made for one event and thrown away.
_CONNECTIONS = 10
_CHECK_SECONDS = 2.0


class HttpPublisher:
    """Posts events to `url` (Knative sets it as K_SINK).

    After `patience` seconds it gives up and leaves the event to the sweep: the caller that waits for this function may be a broker, too,
    which would deliver again.
    """

    def __init__(self, url: str, *, patience: float = 8.0) -> None:
        self._url, self._patience = url, patience
        self._pool: urllib3.PoolManager | None = None

    def publish(self, event: events.Event) -> None:
        """Raises TemporaryError when the broker does not accept the event in time, PermanentError when it refuses it."""
        import urllib3

        self._pool = self._pool or urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS)
        headers, body = cloudevents.encode(event)
        # Spans of the broker belong below the span that published the event.
        headers |= {name: event.extensions[name] for name in ("traceparent", "tracestate") if name in event.extensions}
        deadline, cause = time.monotonic() + self._patience, "no attempt was made"
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                status = self._pool.request("POST", self._url, body=body, headers=headers, timeout=left).status
            except urllib3.exceptions.HTTPError as error:
                cause = type(error).__name__
                continue
            if status < 300:
                return
            cause = f"status {status}"
            if status not in _RETRIED:
                raise errors.PermanentError(f"the broker refused event {event.id} of type {event.type}: {cause}")
        raise errors.TemporaryError(f"the broker at {urls.shown(self._url)} did not accept event {event.id}: {cause}")

    def check(self) -> None:
        """Raises PermanentError when the broker's host does not exist, TemporaryError when nothing answers there."""
        parts = urllib.parse.urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=_CHECK_SECONDS).close()
        except (socket.gaierror, UnicodeError) as error:
            if isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME:
                raise errors.PermanentError(f"the broker's host {parts.hostname!r} does not exist; check K_SINK") from error
            raise errors.TemporaryError(f"the broker's host {parts.hostname!r} cannot be resolved now: {error.strerror}") from error
        except OSError as error:
            raise errors.TemporaryError(f"the broker at {parts.hostname}:{port} does not answer: {error.strerror or error}") from error
