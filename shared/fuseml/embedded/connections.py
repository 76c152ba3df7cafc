"""Connections of the embedded HTTP server: waitress's, with admission by the head of a request, and with a measure of their progress.

waitress reads requests and writes responses in one thread without blocking, and an application is called once its request is complete. So
a slow client occupies a connection and never a thread.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from fuseml.domain import errors
from fuseml.embedded.admission import Admission
from fuseml.embedded.refusals import Refusal
from fuseml.embedded.strict_parser import StrictParser

Phase = Literal["working", "idle", "head", "body", "response", "rest"]

# Bytes of the size of a chunk and of the trailers, which waitress does not limit.
_CHUNK_LINE = 1 << 10
_TRAILERS = 1 << 14
# The rest of a refused body that is read and dropped, so that its sender reads the response before the connection is reset.
_REST = 256 << 20
_RECEIVED = 1 << 16


class Admit(Protocol):
    """See `admission.Admissions.admit`."""

    def __call__(self, path: str, headers: Mapping[str, str], address: str, *, has_body: bool) -> Admission: ...


class Server(Protocol):
    """The server of a connection, `http_server.HttpServer`."""

    admit: Admit
    stopping: bool

    def bounded(self, max_body: int) -> Adjustments:
        """The adjustments of a request with a body of at most `max_body` bytes."""

    def bound_unproven(self) -> None:
        """Refuse the slowest unproven body while all of them together are too large."""

    def add_task(self, task: Any) -> None:
        """Execute the next request of a connection."""

    def pull_trigger(self) -> None:
        """Wake the thread of the connections."""


class Request(StrictParser):
    """A request that is being received. A refused one is complete at once, with `error`, and without the rest of its body."""

    command: Any = ""
    path = ""
    admission = Admission("health", "", 0)

    def __init__(self, connection: Connection, adj: Any) -> None:
        super().__init__(adj)
        self._connection = connection

    def received(self, data: bytes) -> int:
        """See `HTTPRequestParser.received`."""
        consumed = super().received(data)
        if self.chunked:
            self._bound_chunks()
        if self.error is None:
            if self.body_rcv is None:
                # waitress would wait for a body.
                self.expect_continue = False
            return consumed
        if not isinstance(self.error, Refusal):
            self.error = self._refusal(self.error.code, self.error.body)
        self.refuse(self.error)
        # No part of the body may be read as a further request.
        return len(data)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with the refusal instead of the application."""
        self.error, self.completed, self.expect_continue = refusal, True, False
        # It needs no thread that other requests may occupy.
        self.admission = Admission("health", "", 0)

    def parse_header(self, header_plus: bytes) -> None:
        """See `HTTPRequestParser.parse_header`."""
        super().parse_header(header_plus)
        try:
            address = str(self._connection.addr[0])
            self.admission = self._connection.server.admit(self.path, self.headers, address, has_body=self.body_rcv is not None)
        except errors.FusemlError as error:
            self.error, self.completed = Refusal.of(error, self.path), True
            self.body_rcv, self.content_length = None, 0
            return
        self.adj = self._connection.server.bounded(self.admission.max_body)

    def _bound_chunks(self) -> None:
        line, trailers = getattr(self.body_rcv, "control_line", b""), getattr(self.body_rcv, "trailer", b"")
        if self.error is None and not self.completed and (len(line) > _CHUNK_LINE or len(trailers) > _TRAILERS):
            self.error = self._refusal(400, "a chunk of the body is malformed")

    def _refusal(self, status: int, message: str) -> Refusal:
        if status == 413:
            message = f"the request body is larger than {self.admission.max_body} bytes"
        elif status == 431:
            message = f"the head of the request is larger than {self.adj.max_request_header_size} bytes"
        return Refusal(status, message, path=self.path)


class RefusalTask(ErrorTask):
    """Answers a request without an application."""

    def execute(self) -> None:
        """See `ErrorTask.execute`."""
        request: Any = self.request
        if not isinstance(request.error, Refusal):
            # A defect of the server; its log has the cause.
            request.error = Refusal(request.error.code, "FuseML failed on this request; the server's log has the cause")
        super().execute()


class Connection(HTTPChannel):
    """A connection. `phase` and `rate` describe its progress; times are those of the monotonic clock."""

    server: Server  # type: ignore[assignment]
    addr: Any
    requests: list[Request]
    error_task_class = RefusalTask

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        self.since, self.served = time.monotonic(), False
        self._moved = 0
        self._phase: Phase = "idle"
        self._refused = self._resting = False
        super().__init__(server, sock, addr, adj, map)
        self.parser_class = functools.partial(Request, self)  # type: ignore[assignment]

    def observe(self, now: float) -> Phase:
        """The present phase; its time and its bytes are counted from the first observation on."""
        phase = self._present()
        if phase != self._phase:
            self._phase, self.since, self._moved = phase, now, 0
        return phase

    def moved(self) -> int:
        """The bytes that the client has sent or taken in the present phase."""
        return self._moved

    def _present(self) -> Phase:
        if self._resting:
            return "rest"
        if self.total_outbufs_len:
            return "response"
        if self.requests:
            return "working"
        if self.request is None:
            return "idle"
        return "body" if self.request.headers_finished else "head"

    def received(self, data: bytes) -> bool:
        """See `HTTPChannel.received`."""
        self.observe(time.monotonic())
        self._moved += len(data)
        taken = super().received(data)
        request: Any = self.request
        if request is not None and not request.admission.proven:
            self.server.bound_unproven()
        return taken

    def send(self, data: bytes, do_close: bool = True) -> int:
        """See `dispatcher.send`."""
        sent: int = super().send(data, do_close)
        self._moved += sent
        return sent

    def refuse(self, status: int, message: str) -> None:
        """Answer the incomplete request with a refusal. Only for the thread of the connections."""
        with self.requests_lock:  # type: ignore[attr-defined]
            request: Any = self.request
            if request is None or self.requests:
                return
            request.refuse(Refusal(status, message, path=request.path))
            self.request = None
            self.requests.append(request)
            self.server.add_task(self)

    def service(self) -> None:
        """See `HTTPChannel.service`."""
        self._refused = self.requests[0].error is not None
        super().service()
        # The next observation begins a new phase, even if it is that before this request.
        self.served, self._phase = True, "working"
        if self.server.stopping:
            self.close_when_flushed = True
            self.server.pull_trigger()

    def handle_write(self) -> None:
        """See `HTTPChannel.handle_write`."""
        if self._refused and self.close_when_flushed and not self.will_close:
            self._flush_exception(self._flush_some)  # type: ignore[attr-defined]
            if not self.will_close:
                if not self.total_outbufs_len and self.socket is not None:
                    self._await_end(self.socket)
                return
        super().handle_write()

    def _await_end(self, client: socket.socket) -> None:
        """Send the end of the stream, and wait for that of the client, which may still be sending its body."""
        self.close_when_flushed, self._resting = False, True
        # Of this connection only: the loop asks every connection each time.
        self.readable = lambda: True  # type: ignore[method-assign]
        self.writable = lambda: self.will_close  # type: ignore[method-assign]
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)

    def handle_read(self) -> None:
        """See `HTTPChannel.handle_read`."""
        if not self._resting:
            super().handle_read()
            return
        try:
            dropped = len(self.recv(_RECEIVED))
        except OSError:
            dropped = 0
        self._moved += dropped
        if not dropped or self._moved > _REST:
            self.handle_close()

    def handle_close(self) -> None:
        """See `HTTPChannel.handle_close`."""
        request = self.request
        if request is not None:
            # Its file, if any.
            request.close()
            self.request = None
        super().handle_close()
