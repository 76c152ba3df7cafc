"""S3 servers for tests: moto's, a process on a free port that checks signatures and policies as Amazon does, and the server at FUSEML_S3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fuseml.contents import s3
from tests.waiting import PATIENCE, wait_until_ready

BUCKET = "fuseml"
_ANONYMOUS = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup", "region_name": "us-east-1"}
# The unauthenticated calls: creation of the bucket and the two users.
_PREPARATIONS = 7


def _policy(*actions: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})


class Server:
    """A running server with one bucket, at the address `listening`. `account` has full access, `reader` may only list."""

    def __init__(self, folder: Path, listening: str = "127.0.0.1") -> None:
        with socket.create_server((listening, 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"PATH": os.environ["PATH"], "INITIAL_NO_AUTH_ACTION_COUNT": str(_PREPARATIONS)}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", listening, "-p", str(self.port)], env=environment, stdout=log, stderr=log
            )
        try:
            wait_until_ready(self._process, self._listens, "moto", (folder / "log").read_text)
            self.client("s3").create_bucket(Bucket=BUCKET)
            self.account = self._user("fuseml", "s3:*")
            self.reader = self._user("reader", "s3:ListBucket")
        except BaseException:
            self.kill()
            raise

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def client(self, service: str) -> Any:
        """A client of boto3, for operations that the product lacks."""
        import boto3.session

        return boto3.session.Session().client(service, endpoint_url=self.url, **_ANONYMOUS)

    def _user(self, name: str, *actions: str) -> s3.Account:
        iam = self.client("iam")
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.put_user_policy(UserName=name, PolicyName="contents", PolicyDocument=_policy(*actions))
        return s3.Account(endpoint=self.url, region="us-east-1", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    def unfinished(self) -> int:
        """The number of incomplete uploads."""
        import boto3.session

        names = {"aws_access_key_id": self.account.access_key, "aws_secret_access_key": self.account.secret_key}
        client = boto3.session.Session().client("s3", endpoint_url=self.url, region_name="us-east-1", **names)
        return len(client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    def fetch(self, url: str) -> bytes:
        """The content of a link.

        Moto fails on links while it checks accounts, so the checks are off here; it never checks the signatures of links.
        """
        self._check_accounts_after("inf")
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return bytes(answer.read())
        finally:
            self._check_accounts_after("0")

    def _check_accounts_after(self, calls: str) -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", calls.encode(), {"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=PATIENCE).close()

    def kill(self) -> None:
        """Kill the process; connections break."""
        self._process.kill()
        self._process.wait(PATIENCE)


@contextmanager
def server(folder: Path, listening: str = "127.0.0.1") -> Iterator[Server]:
    """A server until the end of the block. At "0.0.0.0" other machines, and pods, reach it."""
    started = Server(folder, listening)
    try:
        yield started
    finally:
        started.kill()


@contextmanager
def bucket() -> Iterator[tuple[str, s3.Account]]:
    """A new bucket at the server at FUSEML_S3, deleted with its content at the end. Skips the test without that server."""
    import boto3.session

    url = os.environ.get("FUSEML_S3")
    if not url:
        pytest.skip("needs FUSEML_S3, the address of an S3 server, and its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    account = s3.Account(
        endpoint=url,
        region=os.environ.get("AWS_REGION", "us-east-1"),
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )
    # The session finds the keys in the same variables.
    client = boto3.session.Session().client("s3", endpoint_url=url, region_name=account.region)
    name = f"fuseml-contract-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=name)
    try:
        yield name, account
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", []):
                client.delete_object(Bucket=name, Key=item["Key"])
        client.delete_bucket(Bucket=name)
    finally:
        client.close()
