"""Every function of the catalogue over a home in which a server has worked: at least one record of each kind, also runs in several states.

Nothing runs any more, so that a request has no effect beyond the database and the repositories, which `restore` brings back.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sqlite3
import urllib.parse
from collections.abc import Mapping
from typing import Any

import yaml
from werkzeug.test import Client

from fuseml.domain import events
from fuseml.embedded import composition
from fuseml.runtime import clock
from fuseml.store import outbox
from tests import documents
from tests.component import ingress
from tests.waiting import wait_until

CANARY = "canary-5b1e-never-shown"
COMMIT = "c" * 40
ENDPOINT = "http://127.0.0.1:1"
# As clients send it: escaped twice.
ADDRESS = urllib.parse.quote(urllib.parse.quote(ENDPOINT, safe=""), safe="")
TOKEN = {"Authorization": "Bearer token"}
DOCUMENT = yaml.safe_load(documents.one_step("hello", code=documents.COMMIT))
GATED = """
name: gated
inputs: [{name: code, type: codeset}]
steps: [{name: work, image: "fuseml.local/shell:1", script: "true", approval: {message: "really?", expires: 1h}}]
"""


APPLICATION = {"name": "served", "type": "predictor", "workflow": "hello", "model": "models:/m/1", "environment": {"TOKEN": CANARY}}


DATASET = f"dataset://demo/d/sha256:{'d' * 64}"
RUNNABLE = {"name": "tool", "version": "1.0.0", "kind": "custom", "image": "registry.example.com/tool:1"}


def _record(id: str, product: str, resource: str) -> dict[str, Any]:
    account = {"id": "account", "configuration": {"SECRET_KEY": CANARY}}
    service = {"id": "s3", "resource": resource, "endpoints": [{"url": ENDPOINT}], "credentials": [account]}
    plain = {"id": "plain", "endpoints": [{"url": ENDPOINT}]}
    return {"id": id, "product": product, "services": [service, plain]}


_OF_ARTIFACTS: dict[str, list[Any]] = {
    "address": ["model://demo/m/4"],
    "kind": ["model"],
    "name": ["m"],
    "version": ["1", "3"],
    "tag": ["best"],
    "label": ["eu"],
    "framework": ["scikit-learn>=1.4"],
    "where": [["metrics.rmse<2"]],
    "pattern": ["model://demo/*?metrics.rmse<2"],
}


class Furnished:
    """`home` holds the state, `gateway` is the WSGI application of the server, `signer` signs its events, `push` is a delivery of a git host."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        parts = self._compose()
        with parts.running(lambda: None):
            client = Client(parts.gateway)
            self._furnish(client, parts)
            self._values = self._names(client)
        self._parts = self._compose()
        self.gateway, self.signer = self._parts.gateway, self._parts.state.signer
        shutil.copytree(home / "git", home / "git.pristine")
        self._pristine, self._present = sqlite3.connect(":memory:"), sqlite3.connect(home / "fuseml.db")
        self._present.backup(self._pristine)
        self._version = self._changes()

    def _compose(self) -> composition.Parts:
        environment = {"PATH": os.environ["PATH"]}
        return composition.compose(self.home, ENDPOINT, "token", mlflow="none", anonymous=False, environment=environment)

    def _furnish(self, client: Client, parts: composition.Parts) -> None:
        def post(path: str, body: Mapping[str, Any] | None = None) -> Any:
            answer = client.post(path, json=body, headers=TOKEN)
            assert answer.status_code in (200, 201, 202), answer.text
            return answer.json if answer.data else None

        for record in (_record("store", "minio", "s3"), _record("tracker", "mlflow", "mlflow-tracking")):
            post("/extensions", record)
        self.tracker_secret = post("/extensions/tracker/webhook")["secret"]
        post("/codesets?project=demo&name=code&labels=a")
        post("/projects?name=empty")
        hello, broken = documents.one_step("hello", code=documents.COMMIT), documents.one_step("broken", "script: exit 1", documents.COMMIT)
        for name, text in (("hello", hello), ("broken", broken), ("gated", GATED)):
            assert client.post("/workflows", data=text, headers=TOKEN).status_code == 201
            post(f"/workflows/assignments?name={name}&codesetProject=demo&codesetName=code")
        assert client.put("/workflows/hello", data=f"{hello}\ndescription: changed\n", headers=TOKEN).status_code == 200
        for version in (1, 2):
            post("/applications", {**APPLICATION, "model": f"models:/m/{version}"})
        with parts.state.store.write() as session:
            poison = events.Event(events.CodesetPushed.TYPE, "/poison", "poison", None, clock.now(), {"project": 1})
            outbox.add(session, [poison], clock.now())
        self.push = ingress.first_push(parts.state.codeset_secret("demo", "code"), "demo", "code", COMMIT)
        assert client.post("/webhooks/gitea", data=self.push.body, headers=self.push.headers).status_code == 202

        def listed(path: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(client.get(path, headers=TOKEN).text)
            return found

        wait_until(lambda: len([run for run in listed("/runs") if run["settled"]]) == 2, "two runs to finish")
        wait_until(lambda: [run for run in listed("/runs?workflow=gated") if run["steps"][0]["state"] == "waiting"], "a run to wait")
        wait_until(lambda: listed("/events/dead-letters"), "the dead letter")
        wait_until(lambda: listed("/artifacts"), "the artifact")
        for version in (1, 2, 3):
            more = {"run": "hello-1", "digest": f"sha256:{'3' * 64}"} if version == 3 else {}
            post("/artifacts", {"address": f"model://demo/m/{version}", "format": "mlflow", "metrics": {"rmse": version}, **more})
        post("/artifacts", {"address": DATASET})
        assert client.put("/artifacts/retention/demo/model", json={"newest": 1000}, headers=TOKEN).status_code == 200
        assert client.put("/artifacts/mirrors/demo/model", json={"store": {"service_resource": "s3"}}, headers=TOKEN).status_code == 200
        post("/runnables?project=demo", RUNNABLE)
        post("/sources", {"name": "team", "codeset": "demo/code", "path": "fuseml"})
        for name in ("tags/best", "labels/eu"):
            assert client.put(f"/artifacts/model/demo/m/1/{name}", headers=TOKEN).status_code == 200

    def _names(self, client: Client) -> dict[str, list[Any]]:
        runs = sorted(run["name"] for run in json.loads(client.get("/runs", headers=TOKEN).text))
        events = [
            event["number"] for path in ("/events", "/events/dead-letters") for event in json.loads(client.get(path, headers=TOKEN).text)
        ]
        return {
            "runs": runs,
            "events": [events[0], events[-1]],
            "workflows": ["hello", "gated", "broken"],
            "extensions": ["store", "tracker"],
            "applications": ["served"],
            "projects": ["demo", "empty"],
            "runnables": ["tool"],
            "catalogs": ["fuseml"],
            "sources": ["team"],
        }

    def existing(self, path: str, name: str) -> list[Any]:
        """Values of what exists, for a parameter of an operation; none if the parameter names nothing."""
        table = {
            "extension_id": ["store"],
            "extension": ["tracker"],
            "service_id": ["s3"],
            "address": [ADDRESS] if "endpoints" in path else ["account"] if "credentials" in path else ["s3"] if name == "address" else [],
            "project": ["demo"],
            "codeset": ["code"],
            "codesetProject": ["demo"],
            "codesetName": ["code"],
            "commit": [COMMIT],
            "workflow": self._values["workflows"],
            "step": ["work"],
            "run": self._values["runs"],
            "other": self._values["runs"],
            "of": [*self._values["runs"], COMMIT, str(self._values["events"][0])],
            "product": ["minio"],
            "resource": ["s3"],
            "service_resource": ["s3"],
            "revision": [1, 2],
        }
        if path == "/lineage":
            return [f"code://demo/code/{COMMIT}"]
        if path.startswith(("/artifacts", "/lineage/")) and name in _OF_ARTIFACTS:
            return ["m@best"] if (path, name) == ("/artifacts/{kind}/{project}/{name}", "name") else _OF_ARTIFACTS[name]
        if name in ("name", "id"):
            kind = path.split("/")[1]
            return ["code"] if kind == "codesets" else self._values.get(kind, [])
        return table.get(name, [])

    def _changes(self) -> int:
        version: int = self._present.execute("PRAGMA data_version").fetchone()[0]
        return version

    def restore(self) -> None:
        """Undo all changes since the construction. Costs little if there are none."""
        if self._changes() == self._version:
            return
        self._pristine.backup(self._present)
        self._version = self._changes()
        git, pristine = self.home / "git", self.home / "git.pristine"
        if sorted(git.glob("*/*")) != sorted(git / folder.relative_to(pristine) for folder in pristine.glob("*/*")):
            shutil.rmtree(git)
            shutil.copytree(pristine, git)

    def close(self) -> None:
        self._present.close()
        self._pristine.close()
        self._parts.state.store.close()
