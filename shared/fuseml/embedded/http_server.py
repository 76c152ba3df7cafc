"""The HTTP server of the embedded process: waitress with bounds for everything that a client can occupy (infra/decisions/0002).

| a client can occupy | bound |
|---|---|
| threads | a pool for each kind of request, divided among callers (`pools`); a full queue answers 503 |
| connections | a number; beyond it the slowest is closed, of the address with the most |
| time | for the head of a request, and a lowest rate for its body and for the response |
| memory and disk | the size of the head and of the body, by the kind of request; a body needs authentication first (`admission`) |
"""

from __future__ import annotations

import collections
import copy
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from fuseml.domain import errors
from fuseml.embedded import admission, connections, pools
from fuseml.embedded.connections import Connection, Phase
from fuseml.embedded.refusals import Refusal
from fuseml.runtime.telemetry import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger("fuseml.server")

_LOOK_SECONDS = 1.0
_IDLE_LOOK_SECONDS = 30.0
_HEAD_BYTES = 1 << 16
_IN_MEMORY = 1 << 17
_BUSY_SECONDS = 2.0
_ACCEPTED_AT_ONCE = 16
# Connections beyond the limit while all others wait for responses.
_RESERVE = 64
# Threads and waiting requests of one caller.
_POOLS: Mapping[admission.PoolName, tuple[int, int]] = {
    "health": (2, 1 << 16),
    "probes": (2, 32),
    "control": (16, 64),
    "applications": (16, 32),
    "tracking": (8, 32),
    "git": (8, 16),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds, bytes, and bytes a second. A connection beyond `connections` replaces the slowest one.

    A body and a response may take `patience` seconds, and more while their average is at least `rate`. `silent` is for the first byte of a
    connection, `idle` for that of a further request, `rest` for the end of a refused body. `unproven` limits the bytes of all bodies whose
    senders prove themselves by the body only.
    """

    connections: int = 1000
    silent: float = 20.0
    idle: float = 120.0
    head: float = 15.0
    patience: float = 20.0
    rate: int = 16 << 10
    rest: float = 5.0
    unproven: int = 256 << 20


class HttpServer(TcpWSGIServer):
    """Serves an application on a listening socket. `run` returns after `stop`."""

    channel_class = Connection
    active_channels: dict[int, Connection]  # type: ignore[assignment]

    def __init__(self, application: WSGIApplication, listener: socket.socket, admit: connections.Admit, limits: Limits) -> None:
        self.admit, self.stopping = admit, False
        self._limits, self._pools = limits, {name: pools.Pool(name, *bounds) for name, bounds in _POOLS.items()}
        self._end, self._shedding = 0.0, False
        self._waking, self._over = threading.Lock(), False
        adjustments = Adjustments(
            sockets=[listener],
            ident="FuseML",
            clear_untrusted_proxy_headers=True,
            max_request_header_size=_HEAD_BYTES,
            inbuf_overflow=_IN_MEMORY,
            recv_bytes=1 << 16,
            cleanup_interval=0,
        )
        bound: Any = (listener.family, listener.type, listener.proto, listener.getsockname())
        own_pools: Any = self
        super().__init__(application, {}, True, listener, own_pools, adjustments, bound, bind_socket=False)
        self._listener = listener
        self._bounded: dict[int, Adjustments] = {}

    def run(self) -> None:
        """Serve until `stop`."""
        polled: Any = self._map  # type: ignore[attr-defined]
        trigger: Any = self.trigger
        looked = 0.0
        while not self._ended():
            if self.stopping:
                self._refuse_connections()
            pause = _LOOK_SECONDS if self.active_channels else _IDLE_LOOK_SECONDS
            # poll(), because select() ends at 1,024 open files.
            wasyncore.poll2(pause, polled)
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS or self.stopping:
                looked = now
                self._look(now)
        for pool in self._pools.values():
            pool.close()
        for connection in list(self.active_channels.values()):
            connection.handle_close()
        self._refuse_connections()
        with self._waking:
            self._over = True
            trigger.close()

    def _refuse_connections(self) -> None:
        if self.accepting:
            self.accepting = False
            self.del_channel()
            self._listener.close()

    def pull_trigger(self) -> None:
        """See `BaseWSGIServer.pull_trigger`. A late thread must not write to a file that has got the number of the closed trigger."""
        with self._waking:
            if not self._over:
                super().pull_trigger()

    def stop(self, seconds: float) -> None:
        """Accept no more connections, and end when the requests in progress are answered, after `seconds` at the latest. From any thread."""
        self._end = time.monotonic() + seconds
        self.stopping = True
        self.pull_trigger()

    def _ended(self) -> bool:
        return self.stopping and (not self.active_channels or time.monotonic() >= self._end)

    def maintenance(self, now: int) -> None:
        """See `BaseWSGIServer.maintenance`; `run` looks at the connections instead."""

    def readable(self) -> bool:
        """Connections are accepted at any time, because slower ones make room."""
        return not self.stopping

    def handle_accept(self) -> None:
        """See `BaseWSGIServer.handle_accept`."""
        for _ in range(_ACCEPTED_AT_ONCE):
            accepted = self._accept()
            if accepted is None:
                return
            sock, address = accepted
            if len(self.active_channels) >= self._limits.connections and not self._make_room():
                sock.close()
            else:
                Connection(self, sock, address, self.adj, self._map)  # type: ignore[attr-defined]

    def _accept(self) -> tuple[socket.socket, Any] | None:
        try:
            accepted: tuple[socket.socket, Any] | None = self.accept()
            if accepted is not None:
                self.set_socket_options(accepted[0])
        except OSError as error:
            # The client has gone, or no more files may be open.
            _log.debug("a connection was not accepted: %s", error)
            return None
        return accepted

    def add_task(self, task: Any) -> None:
        """Execute the next request of a connection in the pool of its kind; a request without a place there is refused."""
        request = task.requests[0]
        admitted = request.admission
        if request.error is None and self._pools[admitted.pool].submit(admitted.caller, task.service):
            return
        if request.error is None:
            busy = errors.TemporaryError("too many of your requests are in progress or wait; try again later", delay=_BUSY_SECONDS)
            request.refuse(Refusal.of(busy, request.path))
        metrics.REQUESTS.count("embedded", "other", "refused", str(request.error.code))
        if not self._pools["health"].submit("", task.service):
            task.will_close = True

    def bounded(self, max_body: int) -> Adjustments:
        """The adjustments of a request with a body of at most `max_body` bytes."""
        found = self._bounded.get(max_body)
        if found is None:
            found = self._bounded[max_body] = copy.copy(self.adj)
            # waitress refuses a body of the limit.
            found.max_request_body_size = max_body + 1
        return found

    def bound_unproven(self) -> None:
        """Refuse the slowest unproven body while all of them together are too large."""
        held = [(connection, request) for connection in self.active_channels.values() for request in _unproven(connection)]
        if sum(request.body_bytes_received for _, request in held) <= self._limits.unproven:
            return
        now = time.monotonic()
        receiving = [connection for connection, request in held if request is connection.request]
        if receiving:
            slowest = min(receiving, key=lambda connection: connection.moved() / max(now - connection.since, _LOOK_SECONDS))
            slowest.refuse(408, "other requests need the place of this one, which was the slowest; try again later")

    def _look(self, now: float) -> None:
        """Close the connections that have been too slow."""
        for connection in list(self.active_channels.values()):
            phase = connection.observe(now)
            if self.stopping and phase in ("idle", "head", "body", "rest"):
                connection.handle_close()
            elif now > self._deadline(connection, phase):
                if phase in ("head", "body"):
                    connection.refuse(408, "the request was not complete in time")
                else:
                    connection.handle_close()

    def _deadline(self, connection: Connection, phase: Phase) -> float:
        limits = self._limits
        match phase:
            case "working":
                return float("inf")
            case "idle":
                return connection.since + (limits.idle if connection.served else limits.silent)
            case "head":
                return connection.since + limits.head
            case "rest":
                return connection.since + limits.rest
        return connection.since + limits.patience + connection.moved() / limits.rate

    def _make_room(self) -> bool:
        """Close the slowest connection of the address with the most. Returns False if all wait for responses."""
        now = time.monotonic()
        idle = [connection for connection in self.active_channels.values() if connection.observe(now) != "working"]
        if not idle:
            return len(self.active_channels) < self._limits.connections + _RESERVE
        most = collections.Counter(str(connection.addr[0]) for connection in idle).most_common(1)[0][0]
        candidates = [connection for connection in idle if str(connection.addr[0]) == most]
        slowest = min(candidates, key=lambda connection: (connection.moved() / max(now - connection.since, 0.001), connection.since))
        if not self._shedding:
            self._shedding = True
            _log.info("all %d connections are in use; from now on the slowest makes room for a new one", self._limits.connections)
        slowest.handle_close()
        return True


def _unproven(connection: Connection) -> list[Any]:
    held: list[Any] = [*connection.requests, *([connection.request] if connection.request is not None else [])]
    return [request for request in held if not request.admission.proven]
