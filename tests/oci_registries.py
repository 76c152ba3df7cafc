"""A real OCI registry for tests, Debian's docker-registry, and images that are pushed by its API."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.waiting import PATIENCE, answers, wait_until_ready

_POOL = urllib3.PoolManager(retries=False)
_CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a registry, until the end of the block. Skips the test without its program."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry, such as Debian's package of that name")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "registry.yaml"
    configuration.write_text(_CONFIGURATION.format(folder=folder / "blobs", port=port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(configuration)], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, lambda: answers(f"{url}/v2/"), "the registry", (folder / "log").read_text)
        yield url
    finally:
        process.kill()
        process.wait(PATIENCE)


def push(url: str, repository: str, tag: str, layers: Sequence[bytes], **labels: str) -> str:
    """The digest of a new image of these layers under a tag."""
    created = datetime.datetime.now(datetime.UTC).isoformat()
    config = json.dumps({"architecture": "amd64", "os": "linux", "created": created, "config": {"Labels": labels}}).encode()
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **_blob(url, repository, config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **_blob(url, repository, data)} for data in layers],
    }
    body = json.dumps(manifest).encode()
    answer = _POOL.request("PUT", f"{url}/v2/{repository}/manifests/{tag}", body=body, headers={"Content-Type": manifest["mediaType"]})
    assert answer.status == 201, answer.data
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _blob(url: str, repository: str, data: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    started = _POOL.request("POST", f"{url}/v2/{repository}/blobs/uploads/")
    place = started.headers["Location"]
    sent = _POOL.request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", body=data)
    assert sent.status == 201, sent.data
    return {"digest": digest, "size": len(data)}
