"""Model servers of applications, reached at `/apps/<name>/`: one process for each, started by its first request, stopped when idle.

A new revision starts beside the old one, which answers until the new one is ready and ends after its last response. So a replacement
fails no request, and a revision that cannot start leaves the old one in place. It is started again after pauses that grow, because the
cause may be temporary, such as a tracking server that is not up yet.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import urllib3

from fuseml.domain import errors
from fuseml.embedded import start_failure
from fuseml.embedded.model_process import START_SECONDS, ModelProcess, Starter
from fuseml.embedded.start_failure import StartFailure
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
class Observed:
    """`serving` is the revision that answers, `starting` one that starts; `failed` is the cause if the revision to serve cannot start."""

    serving: int | None = None
    starting: int | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationStatus(Observed):
    """`revision` is the one to serve."""

    name: str
    model: str | None
    revision: int


@dataclass
class _Slot:
    """The model server of an application, the revision that is starting, and the one that could not start."""

    serving: ModelProcess | None = None
    starting: int | None = None
    failure: StartFailure | None = None
    changed: threading.Condition = dataclasses.field(default_factory=threading.Condition)

    def failure_of(self, revision: int) -> StartFailure | None:
        """The failure of this revision; that of another one does not count."""
        return self.failure if self.failure is not None and self.failure.revision == revision else None


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
        slot, server = self._acquire(name)
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

    def replace(self, name: str, *, at_once: bool = False) -> None:
        """Start the revision to serve if another one answers, which it replaces once it is ready. Raises NotFoundError.

        An application without a model server gets one with its next request. `at_once`: a revision that could not start is started without
        a pause, and also if no revision answers.
        """
        application = self._served(name)
        with self._lock:
            slot = self._slots.get(name)
        if slot is None:
            return
        with slot.changed:
            failed = slot.failure is not None
            if at_once:
                slot.failure = None
            if slot.serving is not None or (at_once and failed):
                self._launch_if_due(application, slot)

    def status(self, name: str) -> ApplicationStatus:
        """The state of the application. Starts nothing. Raises NotFoundError."""
        application = self._served(name)
        observed = self.observe(name, application.revision)
        model = application.document.get("model")
        return ApplicationStatus(name=name, model=model, revision=application.revision, **dataclasses.asdict(observed))

    def observe(self, name: str, revision: int) -> Observed:
        """The state of an application whose revision to serve is `revision`."""
        with self._lock:
            slot = self._slots.get(name)
        if slot is None:
            return Observed()
        with slot.changed:
            serving = slot.serving.revision if slot.serving is not None and slot.serving.child.running else None
            failure = slot.failure_of(revision)
            return Observed(serving=serving, starting=slot.starting, failed=failure.cause if failure is not None else None)

    def _served(self, name: str) -> applications.ApplicationRevision:
        with self._store.read() as session:
            return applications.served(session, name)

    def _slot(self, name: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault(name, _Slot())

    def _acquire(self, name: str) -> tuple[_Slot, ModelProcess]:
        application, slot = self._served(name), self._slot(name)
        deadline = time.monotonic() + START_SECONDS
        with slot.changed:
            while True:
                if slot.serving is not None and not slot.serving.child.running:
                    _log.warning("model server of %s ended unexpectedly and is started again", name)
                    slot.serving.close()
                    slot.serving = None
                if self._stopping.is_set():
                    raise errors.TemporaryError("the server is stopping")
                self._launch_if_due(application, slot)
                if slot.serving is not None:
                    slot.serving.busy += 1
                    return slot, slot.serving
                failure = slot.failure_of(application.revision)
                if failure is not None and slot.starting is None:
                    again = f"a request after {failure.waits} s starts it again"
                    raise errors.PermanentError(f"application {name!r} cannot be served: {failure.cause}; {again}")
                if not slot.changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise errors.TemporaryError(f"application {name!r} was not ready after {START_SECONDS:.0f} seconds")
                # Another revision may be the one to serve by now.
                application = self._served(name)
                if self._slot(name) is not slot:
                    # Its slot is forgotten: a start there ends at once, and would be followed by the next one.
                    raise errors.TemporaryError(f"application {name!r} was replaced while it started; try again")

    def _launch_if_due(self, application: applications.ApplicationRevision, slot: _Slot) -> None:
        """Start the revision in a thread, unless it answers, a start is in progress, or its last one failed too recently.

        The caller holds `slot.changed`.
        """
        if slot.serving is not None and slot.serving.revision == application.revision:
            slot.failure = None
            return
        failure = slot.failure_of(application.revision)
        if slot.starting is None and (failure is None or not failure.waits):
            slot.starting = application.revision
            threading.Thread(target=self._launch, args=(application, slot), name=f"start-{application.application}", daemon=True).start()

    def _release(self, name: str, slot: _Slot, server: ModelProcess) -> None:
        with slot.changed:
            server.busy -= 1
            server.last_used = time.monotonic()
            idle = server.retired and server.busy == 0
        if idle:
            # In a thread: the response must not wait for the end of a process.
            threading.Thread(target=server.close, name=f"stop-{name}", daemon=True).start()

    def _launch(self, application: applications.ApplicationRevision, slot: _Slot) -> None:
        fresh, cause = None, ""
        try:
            fresh = self._starter.start(application)
        except (errors.FusemlError, OSError) as error:
            cause = str(error)
            _log.error("application %s revision %s: %s", application.application, application.revision, cause)
        with slot.changed:
            slot.starting = None
            if fresh is None:
                slot.failure = start_failure.after(slot.failure_of(application.revision), application.revision, cause)
                replaced = None
            elif self._is_to_serve(application, slot):
                replaced, slot.serving, slot.failure = slot.serving, fresh, None
            else:
                replaced = fresh
            if replaced is not None:
                replaced.retired = True
            ended = replaced is not None and not replaced.busy
            slot.changed.notify_all()
        if replaced is not None and ended:
            replaced.close()

    def _is_to_serve(self, application: applications.ApplicationRevision, slot: _Slot) -> bool:
        """Whether the revision is still the one to serve: the application may have been rolled back or deleted while it started."""
        with self._lock:
            forgotten = self._slots.get(application.application) is not slot
        try:
            return not forgotten and self._served(application.application).revision == application.revision
        except errors.FusemlError as error:
            _log.warning("application %s revision %s is not served: %s", application.application, application.revision, error)
            return False

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_SECONDS):
            for log in self._starter.logs():
                logs.rotate(log, self._rotation)
            with self._lock:
                slots = list(self._slots.items())
            for name, slot in slots:
                if slot.serving is not None:
                    self._update(name, slot)

    def _update(self, name: str, slot: _Slot) -> None:
        try:
            self.replace(name)
        except errors.NotFoundError:
            self.forget(name)
        except errors.FusemlError as error:
            _log.warning("application %s cannot be compared with its record: %s", name, error)
        else:
            self._stop_if_idle(name, slot)

    def _stop_if_idle(self, name: str, slot: _Slot) -> None:
        with slot.changed:
            server = slot.serving
            # A former revision stays while its successor cannot start.
            if server is None or server.busy or slot.starting is not None or slot.failure is not None:
                return
            if time.monotonic() - server.last_used <= self._idle:
                return
            slot.serving = None
        _log.info("model server of %s is idle and is stopped", name)
        server.close()
