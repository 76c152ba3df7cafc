"""Model servers of applications, reached at `/apps/<name>/`: one process for each, started by its first request, stopped when idle.

A new revision starts beside the old one, which answers until the new one is ready and ends after its last response. So a replacement
fails no request, and a revision that cannot start leaves the old one in place.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import urllib3

from fuseml.domain import errors
from fuseml.embedded.model_process import START_SECONDS, ModelProcess, Starter
from fuseml.runtime import forwarding
from fuseml.runtime.telemetry import logs
from fuseml.store import applications, database

_log = logging.getLogger("fuseml.apps")
_REQUEST_SECONDS = 60.0
_SWEEP_SECONDS = 2.0
_KEY_HEADER = "x-fuseml-key"
# FuseML's, not the model's.
_CREDENTIALS = frozenset({"authorization", "cookie", _KEY_HEADER})


@dataclass(frozen=True, slots=True)
class Reply:
    """Response of a model server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationStatus:
    """`revision` is the one to serve, `serving` the one that answers, if any; `failed` is the cause if `revision` cannot start."""

    name: str
    model: str | None
    revision: int
    serving: int | None
    failed: str | None


@dataclass
class _Slot:
    """The model server of an application, and the revision that is starting."""

    serving: ModelProcess | None = None
    starting: int | None = None
    failed: tuple[int, str] | None = None
    changed: threading.Condition = dataclasses.field(default_factory=threading.Condition)


class ModelServers:
    """A model server ends after `idle` seconds without a request; larger logs than those of `rotation` are rotated."""

    def __init__(self, store: database.Database, starter: Starter, *, idle: float, rotation: logs.Rotation = logs.DEFAULT_ROTATION) -> None:
        self._store, self._starter, self._idle, self._rotation = store, starter, idle, rotation
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)
        self._sweeper = threading.Thread(target=self._sweep, name="model-servers", daemon=True)

    def start(self) -> None:
        """Start the sweep of idle model servers."""
        self._starter.prepare()
        self._sweeper.start()

    def stop(self) -> None:
        """End every model server side by side, also those that are starting, and wait for their processes. Waiting requests fail."""
        with self._lock:
            self._stopping.set()
            slots = list(self._slots.values())
            self._slots.clear()
        for slot in slots:
            with slot.changed:
                slot.changed.notify_all()
        self._starter.stop()
        self._sweeper.join()

    def request(self, name: str, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> Reply:
        """Forward a request to the application; start its model server if necessary.

        Raises NotFoundError for an unknown application, TemporaryError while it cannot answer, PermanentError for a model that cannot be
        served, InvalidError for a `Connection` header that takes fields from the request.
        """
        forwarded = [(key, value) for key, value in forwarding.request_fields(headers) if key.lower() not in _CREDENTIALS]
        with self._store.read() as session:
            application = applications.served(session, name)
        slot = self._slot(name)
        server = self._acquire(application, slot)
        try:
            response = self._pool.request(
                method,
                server.url + path,
                body=body,
                headers=urllib3.HTTPHeaderDict([*forwarded, (_KEY_HEADER, server.key)]),
                timeout=_REQUEST_SECONDS,
                redirect=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"application {name!r} did not answer: {type(error).__name__}") from error
        finally:
            self._release(name, slot, server)
        kept = [(key, value) for key, value in forwarding.response_fields(response.headers.items()) if key.lower() != "content-length"]
        return Reply(response.status, kept, response.data)

    def forget(self, name: str) -> None:
        """End the model server of a deleted application; a new one of its name starts anew."""
        with self._lock:
            slot = self._slots.pop(name, None)
        if slot is None:
            return
        with slot.changed:
            server, slot.serving = slot.serving, None
            if server is not None:
                server.retired = True
        if server is not None and not server.busy:
            server.close()

    def status(self, name: str) -> ApplicationStatus:
        """The state of the application. Starts nothing. Raises NotFoundError."""
        with self._store.read() as session:
            application = applications.served(session, name)
        slot = self._slot(name)
        with slot.changed:
            failed = slot.failed[1] if slot.failed and slot.failed[0] == application.revision else None
            return ApplicationStatus(
                name=name,
                model=application.document.get("model"),
                revision=application.revision,
                serving=slot.serving.revision if slot.serving else None,
                failed=failed,
            )

    def _slot(self, name: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault(name, _Slot())

    def _acquire(self, application: applications.ApplicationRevision, slot: _Slot) -> ModelProcess:
        deadline = time.monotonic() + START_SECONDS
        with slot.changed:
            while True:
                if slot.serving is not None and not slot.serving.child.running:
                    _log.warning("model server of %s ended unexpectedly and is started again", application.application)
                    slot.serving.close()
                    slot.serving = None
                current = slot.serving is not None and slot.serving.revision == application.revision
                failed = slot.failed is not None and slot.failed[0] == application.revision
                if not current and not failed and slot.starting is None:
                    slot.starting = application.revision
                    threading.Thread(
                        target=self._launch, args=(application, slot), name=f"start-{application.application}", daemon=True
                    ).start()
                if slot.serving is not None:
                    slot.serving.busy += 1
                    return slot.serving
                if self._stopping.is_set():
                    raise errors.TemporaryError("the server is stopping")
                if failed and slot.failed is not None:
                    raise errors.PermanentError(f"application {application.application!r} cannot be served: {slot.failed[1]}")
                if not slot.changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise errors.TemporaryError(f"application {application.application!r} was not ready after {START_SECONDS:.0f} seconds")

    def _release(self, name: str, slot: _Slot, server: ModelProcess) -> None:
        with slot.changed:
            server.busy -= 1
            server.last_used = time.monotonic()
            idle = server.retired and server.busy == 0
        if idle:
            # In a thread: the response must not wait for the end of a process.
            threading.Thread(target=server.close, name=f"stop-{name}", daemon=True).start()

    def _launch(self, application: applications.ApplicationRevision, slot: _Slot) -> None:
        try:
            fresh, problem = self._starter.start(application), None
        except (errors.FusemlError, OSError) as error:
            fresh, problem = None, str(error)
            _log.error("application %s revision %s: %s", application.application, application.revision, error)
        with slot.changed:
            old, slot.starting = slot.serving, None
            if fresh is None:
                slot.failed = (application.revision, problem or "")
            else:
                slot.serving, slot.failed = fresh, None
                if old is not None:
                    old.retired = True
            idle = fresh is not None and old is not None and old.busy == 0
            slot.changed.notify_all()
        if idle and old is not None:
            old.close()
        with self._lock:
            forgotten = self._slots.get(application.application) is not slot
        if fresh is not None and forgotten:
            fresh.close()

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_SECONDS):
            for log in self._starter.logs():
                logs.rotate(log, self._rotation)
            for name, server in list(self._unused()):
                _log.info("model server of %s is idle and is stopped", name)
                server.close()

    def _unused(self) -> Iterator[tuple[str, ModelProcess]]:
        with self._lock:
            slots = list(self._slots.items())
        for name, slot in slots:
            with slot.changed:
                server = slot.serving
                if server is None or server.busy or slot.starting is not None:
                    continue
                if time.monotonic() - server.last_used > self._idle or not self._exists(name):
                    slot.serving = None
                    yield name, server

    def _exists(self, name: str) -> bool:
        try:
            with self._store.read() as session:
                applications.get(session, name)
        except errors.NotFoundError:
            return False
        return True
