"""Rotating the keys that seal secrets: everything is sealed anew, nothing is lost, whenever the server dies."""

from __future__ import annotations

import json
import pathlib
import sqlite3
from typing import Any

from tests import commands
from tests.embedded import servers

WORKFLOW = """
name: read
inputs:
  - name: code
    type: codeset
outputs:
  - name: length
steps:
  - name: measure
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {name: "{{ inputs.code }}", path: /project}
    extensions:
      - name: store
        service_resource: s3
    script: printf "${#SECRET_KEY}" > "$FUSEML_ENV_RESULTS/length"
    outputs:
      - name: length
"""
SECRET = "seventeen letters"


def _sealed(home: pathlib.Path) -> tuple[str, str]:
    """What the database holds for the credentials' value and for the codeset's webhook secret."""
    with sqlite3.connect(home / "fuseml.db") as database:
        document: dict[str, Any] = json.loads(database.execute("SELECT document FROM extension WHERE id = 'store'").fetchone()[0])
        (webhook,) = database.execute("SELECT webhook_secret FROM codeset").fetchone()
    return document["services"][0]["credentials"][0]["configuration"]["SECRET_KEY"], webhook


def _rotate(server: servers.Server) -> dict[str, Any]:
    rotated: dict[str, Any] = json.loads(server.fuseml("secrets", "rotate", "-o", "json").stdout)
    return rotated


def test_a_rotation_seals_everything_anew_and_survives_a_death_in_the_middle(tmp_path: pathlib.Path) -> None:
    server = servers.Server(tmp_path / "home", "--mlflow", "none").start()
    try:
        credentials = [{"id": "account", "configuration": {"SECRET_KEY": SECRET}}]
        service = {"id": "s3", "resource": "s3", "endpoints": [{"url": "http://127.0.0.1:9"}], "credentials": credentials}
        server.post("/extensions", {"id": "store", "services": [service]})
        server.post("/workflows", raw=WORKFLOW.encode())
        registered = server.post("/codesets?project=p&name=code")
        checkout = servers.Checkout(tmp_path / "code", registered["codeset"]["url"], registered["username"], registered["password"])
        server.post("/workflows/assignments?name=read&codesetProject=p&codesetName=code")
        keys = server.home / "keys"
        old = keys.read_text()
        before = _sealed(server.home)

        # What a death between the new key and the first value sealed with it leaves.
        server.kill()
        newest = commands.python("from fuseml.runtime import secrets; print(secrets.new_key())").stdout
        keys.write_text(newest + old)
        server.start()
        checkout.push("one")
        assert server.finished_run("read-1")["outputs"] == {"length": str(len(SECRET))}
        assert _sealed(server.home) == before

        rotated = _rotate(server)

        # The codeset has the secret of its webhook, and a password.
        assert rotated == {"credentials": 1, "webhook_secrets": 2, "unreadable": []}
        after = _sealed(server.home)
        assert after[0] != before[0]
        assert after[1] != before[1]
        assert keys.stat().st_mode & 0o777 == 0o600
        assert len(keys.read_text().split()) == 3

        # The old keys may go now, but for the oldest, from which tokens and push passwords are derived.
        server.stop()
        kept = keys.read_text().split()
        keys.write_text(f"{kept[0]}\n{kept[-1]}\n")
        server.start()
        checkout.push("two")
        assert server.finished_run("read-2")["outputs"] == {"length": str(len(SECRET))}
    finally:
        server.stop()
