"""Canaries planted as credentials are looked for wherever a secret could leak: only the environment of the step's process may hold them."""

from __future__ import annotations

import pathlib
import re
import subprocess

from tests.embedded import server as embedded

CANARY = "canary-4f1d0c7be2-do-not-sing"
OTHER = "canary-9ab35e6d71-do-not-sing"

WORKFLOW = """
name: sing
inputs:
  - name: code
    type: codeset
steps:
  - name: aloud
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}
      - name: key
        value: "{{{{ extension.store.cfg.AWS_ACCESS_KEY_ID }}}}"
    extensions:
      - name: store
        service_resource: s3
    env:
      - name: MIXED
        value: "with {{{{ extension.store.cfg.AWS_SECRET_ACCESS_KEY }}}} inside"
    script: |
      echo "key $FUSEML_KEY and $MIXED"
      test "$FUSEML_KEY" = "$AWS_ACCESS_KEY_ID" && touch {witness}
      while [ ! -e {gate} ]; do sleep 0.05; done
      echo "failed with $AWS_SECRET_ACCESS_KEY" >&2
      exit 3
"""


def _found_in(data: bytes) -> bool:
    return CANARY.encode() in data or OTHER.encode() in data


def _leaks(home: pathlib.Path, *, raw_logs: bool) -> list[str]:
    """The files below the home that hold a canary. A step's own log is masked when the step has ended, and whenever it is read."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [str(path) for path in files if (raw_logs or path.name != "log") and _found_in(path.read_bytes())]


def _crawl(server: embedded.Server, run: str) -> list[str]:
    """The GET routes of the API whose answer holds a canary; every template is filled with what is there."""
    values = {
        "id": "store",
        "extension_id": "store",
        "service_id": "s3",
        "address": "default",
        "name": run,
        "step": "aloud",
        "project": "p",
    }
    paths = [re.sub(r"{(\w+)}", lambda match: values.get(match[1], "code"), path) for path in server.get("/openapi.json")["paths"]]
    return [path for path in [*paths, "/workflows/sing", "/readyz"] if _found_in(server.call("GET", path).body)]


def test_no_canary_is_found_outside_the_steps_own_environment(tmp_path: pathlib.Path) -> None:
    witness, gate = tmp_path / "witness", tmp_path / "gate"
    with embedded.running(tmp_path / "home", "--mlflow", "none") as server:
        credentials = {"id": "default", "configuration": {"AWS_ACCESS_KEY_ID": CANARY, "AWS_SECRET_ACCESS_KEY": OTHER}}
        service = {
            "id": "s3",
            "resource": "s3",
            "auth_required": True,
            "endpoints": [{"url": "http://127.0.0.1:9"}],
            "credentials": [credentials],
        }
        assert not _found_in(server.call("POST", "/extensions", {"id": "store", "services": [service]}).body)
        server.post("/workflows", raw=WORKFLOW.format(witness=witness, gate=gate).encode())
        registered = server.post("/codesets?project=p&name=code")
        checkout = embedded.Checkout(tmp_path / "code", registered["codeset"]["url"], registered["username"], registered["password"])
        server.post("/workflows/assignments?name=sing&codesetProject=p&codesetName=code")
        checkout.push("sing")
        embedded.wait_for(witness.exists, 30, "the step to have its secrets")

        assert _leaks(server.home, raw_logs=False) == []
        assert not _found_in(server.call("GET", "/runs/sing-1/logs/aloud").body)
        arguments = subprocess.run(["ps", "-e", "-o", "args="], capture_output=True, check=True).stdout
        assert not _found_in(arguments)

        gate.touch()
        run = server.finished_run("sing-1")
        assert run["state"] == "failed"
        assert "failed with <hidden>" in run["cause"]
        assert [binding["secret_keys"] for binding in run["bindings"]] == [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]]
        assert b"key <hidden> and with <hidden> inside" in server.call("GET", "/runs/sing-1/logs/aloud").body
        assert _crawl(server, "sing-1") == []
        broken = {"configuration": {"bad key!": CANARY}}
        assert not _found_in(server.call("PUT", "/extensions/store/services/s3/credentials/default", broken).body)
        assert _leaks(server.home, raw_logs=True) == []
    assert _leaks(tmp_path / "home", raw_logs=True) == []
