"""HTTP to the child processes of this server, over a private socket file or loopback, with a key that only this process knows."""

from __future__ import annotations

import pathlib
import socket
from typing import Any

import urllib3


class _SocketFileConnection(urllib3.connection.HTTPConnection):
    def __init__(self, host: str, port: int | None = None, *, socket_file: str, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._socket_file = socket_file

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(5.0)
            connection.connect(self._socket_file)
        except OSError as error:
            connection.close()
            raise urllib3.exceptions.NewConnectionError(self, f"cannot connect: {error}") from error
        return connection


class SocketFilePool(urllib3.HTTPConnectionPool):
    """Connections to the server that listens at `socket_file`; URLs are paths."""

    ConnectionCls = _SocketFileConnection

    def __init__(self, socket_file: pathlib.Path, *, most: int = 16) -> None:
        super().__init__("localhost", maxsize=most, retries=False, socket_file=str(socket_file))
