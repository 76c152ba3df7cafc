"""A client of git's protocol over HTTP(S) for one repository, with a bound for the bytes and the time of all answers together.

The server decides neither the memory nor the time that a request takes: at the deadline its connections are cut off, in a handshake, in the head
of an answer or in its body. Redirects are not followed.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import urllib3
    from dulwich.client import Urllib3HttpGitClient

_CONNECT_SECONDS = 5.0
_BLOCK = 1 << 16


@contextlib.contextmanager
def client(url: str, username: str, password: str, *, seconds: float, size: int, thin_packs: bool = True) -> Iterator[Urllib3HttpGitClient]:
    """A client for the repository; without a password it sends no account. Without `thin_packs` a fetched pack needs no other objects.

    Beyond `seconds`, or `size` bytes, its calls raise OSError. Raises the errors of dulwich and urllib3.
    """
    from dulwich import client as git

    # Before the timer starts, so that no connection is cut off before the deadline.
    deadline = time.monotonic() + seconds
    with connections(seconds, deadline) as pool:
        answers = _Answers(pool, seconds, deadline, size)
        bounded: Any = answers
        try:
            name = username if password else None
            yield git.Urllib3HttpGitClient(
                f"{url.rstrip('/')}/", pool_manager=bounded, username=name, password=password, thin_packs=thin_packs
            )
        finally:
            answers.close()


@contextlib.contextmanager
def connections(seconds: float, deadline: float) -> Iterator[urllib3.PoolManager]:
    """Connections that are cut off after some seconds: a timeout of a socket would apply to each byte of a slow server anew."""
    import urllib3
    from urllib3 import connection, connectionpool

    sockets: list[socket.socket] = []

    class Plain(connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _watched(super()._new_conn(), sockets, deadline)

    class Secure(connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _watched(super()._new_conn(), sockets, deadline)

    class PlainPool(connectionpool.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(connectionpool.HTTPSConnectionPool):
        ConnectionCls = Secure

    timer = threading.Timer(seconds, _cut, [sockets])
    timer.daemon = True
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)) as pool:
        pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        timer.start()
        try:
            yield pool
        finally:
            timer.cancel()
            timer.join()
            for item in sockets:
                item.close()


def _watched(connected: socket.socket, sockets: list[socket.socket], deadline: float) -> socket.socket:
    # A duplicate, because TLS takes the descriptor of the first one over.
    sockets.append(connected.dup())
    if time.monotonic() >= deadline:
        # The timer may have ended before it could see this connection.
        connected.close()
        raise TimeoutError("connected after the deadline")
    return connected


def _cut(sockets: list[socket.socket]) -> None:
    for item in list(sockets):
        # The server may have closed it.
        with contextlib.suppress(OSError):
            item.shutdown(socket.SHUT_RDWR)


class _Answers:
    """The pool as the client of git uses it."""

    def __init__(self, pool: urllib3.PoolManager, seconds: float, deadline: float, left: int) -> None:
        self._pool, self._seconds, self._deadline, self._left = pool, seconds, deadline, left
        self._responses: list[urllib3.BaseHTTPResponse] = []
        self.headers: dict[str, str] = {"User-Agent": "git/fuseml"}

    def request(self, method: str, url: str, **options: Any) -> Any:
        with self._timed():
            response: Any = self._pool.request(method, url, redirect=False, **options)
        self._responses.append(response)
        # As `read`, which would wait for all bytes of a server that sends one at a time.
        response.read = functools.partial(self._read, response.read1)
        return response

    def _read(self, some: Callable[[int], bytes], amount: int | None = None) -> bytes:
        blocks, missing = list[bytes](), self._left + 1 if amount is None else amount
        while missing > 0:
            with self._timed():
                block = some(min(missing, self._left + 1, _BLOCK))
            if not block:
                break
            blocks.append(block)
            missing -= len(block)
            self._left -= len(block)
            if self._left < 0:
                raise OSError("it sends more than is read of a repository")
        return b"".join(blocks)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Raises OSError at the deadline, instead of what a connection that was cut off then leads to."""
        import urllib3.exceptions

        try:
            yield
        except (OSError, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() < self._deadline:
                raise
            raise self._late() from error
        if time.monotonic() >= self._deadline:
            raise self._late()

    def _late(self) -> OSError:
        return OSError(f"it took longer than {self._seconds:g} seconds")

    def close(self) -> None:
        """Close the responses: the client leaves those of errors open."""
        for response in self._responses:
            response.close()
