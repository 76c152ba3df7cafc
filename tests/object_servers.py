"""Servers of object stores for tests: fake-gcs-server at FUSEML_GCS and Azurite at FUSEML_AZURITE, the paths of their programs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml.contents import azure_blob, gcs, object_store
from tests.waiting import wait_until_ready

BUCKET = "fuseml"
# The account that every Azurite knows; its documentation names it.
_AZURITE = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Server:
    """A server with one bucket; `variables` are those of a record, `objects` what is in the bucket."""

    variables: Mapping[str, str]
    objects: object_store.Objects


@contextlib.contextmanager
def google(at: Path) -> Iterator[Server]:
    """fake-gcs-server. Skips the test without it."""
    pytest.importorskip("gcsfs", reason="needs gcsfs: install fuseml[gcs]")
    program, port = _program("FUSEML_GCS", "fake-gcs-server"), _port()
    url = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with _running([program, *options], at, port):
        request = urllib.request.Request(f"{url}/storage/v1/b?project=test", f'{{"name": "{BUCKET}"}}'.encode())
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request).close()
        yield Server({gcs.SERVER: url}, gcs.GoogleObjects(BUCKET, server=url))


@contextlib.contextmanager
def azurite(at: Path) -> Iterator[Server]:
    """Azurite. Skips the test without it."""
    pytest.importorskip("adlfs", reason="needs adlfs: install fuseml[azure]")
    program, port = _program("FUSEML_AZURITE", "azurite-blob"), _port()
    options = ["--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(at / "blobs"), "--disableTelemetry"]
    with _running([program, *options, "--skipApiVersionCheck"], at, port):
        endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
        connection = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_AZURITE};BlobEndpoint={endpoint}"
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container(BUCKET).close()
        yield Server({azure_blob.CONNECTION: connection}, azure_blob.AzureObjects(BUCKET, connection))


def _program(variable: str, name: str) -> str:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"needs {name}: {variable}, the path of its program")
    return path


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _running(command: Sequence[str], at: Path, port: int) -> Iterator[None]:
    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return False
        return True

    with (at / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "HOME": str(at)})
    try:
        wait_until_ready(process, listens, command[0], (at / "log").read_text)
        yield
    finally:
        process.kill()
        process.wait()
