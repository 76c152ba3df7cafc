"""Tools for probes: real ones where they can be started, else servers with the exact responses of the tool."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3

CANARY = "canary-5ecret-value"

Headers = Mapping[str, str]
Answer = tuple[int, Headers, bytes]


@dataclass
class Server:
    """A running HTTP server, with the paths and headers of its requests."""

    port: int
    requests: list[tuple[str, Headers]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def authorizations(self) -> list[str]:
        return [headers["authorization"] for _, headers in self.requests if "authorization" in headers]


@contextlib.contextmanager
def serve(answer: Callable[[str, Headers], Answer], port: int = 0) -> Iterator[Server]:
    """A server with the response `answer(path, headers)`, header names in lower case; `port` restarts one at its old address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            running.requests.append((self.path, headers))
            status, sent, body = answer(self.path, headers)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **sent}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """No log."""

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    running = Server(listening.server_port)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def pages(responses: Mapping[str, Answer]) -> Callable[[str, Headers], Answer]:
    """Fixed responses by path; 404 elsewhere."""
    return lambda path, _: responses.get(path, (404, {}, b"not found"))


def json_response(status: int, data: Any, **headers: str) -> Answer:
    """A JSON response; `_` in a header's name is `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(data).encode()


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def gitea(version: str = "1.24.6", password: str = CANARY) -> Callable[[str, Headers], Answer]:
    """Gitea's version and user API, and its OCI registry."""

    def answer(path: str, headers: Headers) -> Answer:
        if path == "/api/v1/version":
            return json_response(200, {"version": version})
        if path == "/api/v1/user":
            is_valid = headers.get("authorization") in (basic("fuseml", password), f"token {password}")
            return (
                json_response(200, {"id": 1, "login": "fuseml"})
                if is_valid
                else json_response(401, {"message": "user does not exist [uid: 0, name: ]"})
            )
        if path == "/v2/":
            return json_response(401, {"errors": []}, Docker_Distribution_Api_Version="registry/2.0")
        return 404, {}, b"Not found.\n"

    return answer


def guarded(url: str, username: str, password: str) -> Callable[[str, Headers], Answer]:
    """The MLflow at `url` behind the rules of its basic-auth app: every route but /health needs an account."""

    def answer(path: str, headers: Headers) -> Answer:
        if path != "/health" and headers.get("authorization") != basic(username, password):
            return 401, {"WWW-Authenticate": 'Basic realm="mlflow"'}, b"You are not authenticated."
        response = urllib3.request("GET", url + path, redirect=False, retries=False)
        return response.status, {"Content-Type": response.headers.get("Content-Type", "")}, response.data

    return answer


@dataclass(frozen=True)
class Store:
    """An S3 server with two valid accounts: the owner has all permissions, the guest none."""

    server: Server
    owner: Mapping[str, str]
    guest: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.server.url


ACCESS_DENIED = (
    403,
    {"Content-Type": "application/xml", "x-amz-request-id": "17A5C2"},
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied.</Message><Resource>/</Resource></Error>',
)
"""The response of an S3 server to a request without an account."""


@contextlib.contextmanager
def s3_server() -> Iterator[Store]:
    """moto with checks of accounts and signatures, behind a gate for requests without an account, on which moto fails."""
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    inner = "http://{}:{}".format(*moto.get_host_and_port())

    def gate(path: str, headers: Headers) -> Answer:
        if "authorization" not in headers:
            return ACCESS_DENIED
        response = urllib3.request("GET", inner + path, headers=dict(headers), redirect=False, retries=False)
        return response.status, {"Content-Type": response.headers.get("Content-Type", "")}, response.data

    try:
        admin = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup", "region_name": "us-east-1", "endpoint_url": inner}
        accounts = list(_accounts(boto3.client("iam", **admin)))
        boto3.client("s3", **admin).create_bucket(Bucket="models")
        urllib3.request("POST", f"{inner}/moto-api/reset-auth", body=b"0")
        with serve(gate) as outer:
            yield Store(outer, *accounts)
    finally:
        # moto's state belongs to the process, not to the server.
        urllib3.request("POST", f"{inner}/moto-api/reset-auth", body=b"inf")
        urllib3.request("POST", f"{inner}/moto-api/reset")
        moto.stop()


def _accounts(iam: Any) -> Iterator[Mapping[str, str]]:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    for name in ("owner", "guest"):
        iam.create_user(UserName=name)
        if name == "owner":
            iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(everything))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
