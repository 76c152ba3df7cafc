"""The HTTP server of `fuseml up`: CPU time of a request, against a bare waitress server with the same application.

python -m tests.bench.bench_http
"""

from __future__ import annotations

import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys

ROUNDS, REQUESTS, IDLE = 7, 2000, 300
BODY = b"x" * 2000

SERVER = """
import socket, sys
from fuseml.embedded import admission, http_server
import waitress.server

def app(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\\n"]

listener = socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
if sys.argv[1] == "bare":
    waitress.server.create_server(app, sockets=[listener], threads=16, asyncore_use_poll=True, connection_limit=1000,
                                  clear_untrusted_proxy_headers=True).run()
else:
    from fuseml.githosts import smart_http
    from fuseml.runtime import auth
    from fuseml.runtime.http import Api
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    admissions = admission.Admissions(tokens, lambda *_: True, {"workflows": Api("workflows", "", tokens=tokens).app}, lambda _: None, lambda _: False, lambda _: smart_http.MAX_BODY)
    http_server.HttpServer(app, listener, admissions.admit, http_server.Limits(silent=600)).run()
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, kind], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def cpu(self) -> float:
        """Its CPU seconds so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))

    def load(self, request: bytes) -> float:
        """CPU microseconds for each of many requests on one connection."""
        before = self.cpu()
        with self.connect() as client:
            for _ in range(REQUESTS):
                client.sendall(request)
                received = b""
                while not received.endswith(b"ok\n"):
                    received += client.recv(4096)
        return (self.cpu() - before) / REQUESTS * 1e6

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    head = b" /workflows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\n"
    requests = {
        "GET": b"GET" + head + b"\r\n",
        "POST of 2 kB": b"POST" + head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    }
    for label, held in (("", 0), (f", {IDLE} silent connections", IDLE)):
        for name, request in requests.items():
            bare, bounded = Server("bare"), Server("bounded")
            try:
                silent = [server.connect() for server in (bare, bounded) for _ in range(held)]
                costs = [(bare.load(request), bounded.load(request)) for _ in range(ROUNDS)][1:]
                for client in silent:
                    client.close()
            finally:
                bare.stop()
                bounded.stop()
            ratio = statistics.median(after / before for before, after in costs)
            own, base = (statistics.median(values) for values in zip(*[(after, before) for before, after in costs], strict=True))
            print(f"{name + label:40} {own:6.0f} us CPU, {ratio:4.2f} times bare waitress ({base:.0f} us)")


if __name__ == "__main__":
    main()
