"""The function `artifacts` over a database, with one project, and the events that it publishes."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import werkzeug.test

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from fuseml.domain import errors, events
from fuseml.runtime import auth, secrets
from fuseml.store import codesets, database, outbox, runs
from tests import event_keys

NOON = "2026-11-21T12:00:00.000000Z"
DIGEST = f"sha256:{'1' * 64}"
OTHER = f"sha256:{'2' * 64}"
STEP = "fuseml-step.of-train-1"
KEYRING = secrets.Keyring([secrets.new_key()])


def path(address: str, *more: str) -> str:
    """The path of an artifact: the parts of its address, each escaped twice."""
    kind, _, rest = address.partition("://")
    project, _, rest = rest.partition("/")
    name, _, version = rest.rpartition("/")
    parts = [kind, project, name, version]
    return "/artifacts/" + "/".join([*(urllib.parse.quote(urllib.parse.quote(part, safe=""), safe="") for part in parts), *more])


class Registered:
    """`published` are the events, in order. While `away` no broker accepts any."""

    def __init__(self, store: database.Database, *, new: bool = True) -> None:
        self.store, self.published, self.away = store, list[events.Event](), False
        steps = auth.StepCaller("demo", None, "train", "train-1", "fit", ("applications",))

        def of_token(token: str) -> auth.StepCaller:
            if token != STEP:
                raise errors.UnauthenticatedError("the token is not valid")
            return steps

        tokens = auth.Tokens({auth.digest_of("ada"): auth.Caller("ada", "admin")}, steps=of_token)
        self.client = artifacts_app.create_app(
            artifacts_deps.Deps(store=store, publisher=self, signer=event_keys.SIGNER, tokens=tokens, keyring=KEYRING)
        ).test_client()
        if new:
            store.migrate()
            self._furnish()

    def _furnish(self) -> None:
        with self.store.write() as session:
            for name in ("demo", "other"):
                codesets.create_project(session, name, "", NOON)
                row = runs.Run(
                    id=f"of {name}",
                    name="train-1" if name == "demo" else "secret-1",
                    sequence=1 if name == "demo" else 2,
                    workflow="train",
                    revision=1,
                    project=name,
                    trigger={},
                    inputs={},
                    state="running",
                    created=NOON,
                )
                runs.add(session, row, ["fit", "score"])

    def publish(self, event: events.Event) -> None:
        if self.away:
            raise errors.TemporaryError("the broker is away")
        self.published.append(event)

    def pending(self) -> int:
        """Events that no broker has accepted."""
        with self.store.read() as session:
            return len(outbox.pending(session, 0, 100))

    def call(self, method: str, target: str, body: object = None, *, token: str = "ada", status: int = 200) -> Any:
        """The document of an answer with this status."""
        answer = self.answer(method, target, body, token)
        assert answer.status_code == status, answer.text
        return json.loads(answer.text) if answer.text else None

    def answer(self, method: str, target: str, body: object = None, token: str = "ada") -> werkzeug.test.TestResponse:
        return self.client.open(target, method=method, json=body, headers={"Authorization": f"Bearer {token}"})

    def register(self, address: str, *, token: str = "ada", status: int = 201, **fields: object) -> Any:
        return self.call("POST", "/artifacts", {"address": address, **fields}, token=token, status=status)

    def search(self, **filters: str | list[str]) -> list[str]:
        """The addresses of all pages."""
        target, found = f"/artifacts?{urllib.parse.urlencode(filters, doseq=True)}", list[str]()
        while target:
            answer = self.answer("GET", target)
            assert answer.status_code == 200, answer.text
            found += (item["address"] for item in json.loads(answer.text))
            target = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        return found

    def types(self) -> list[str]:
        """The short types of the published events."""
        return [event.type.removeprefix(events.PREFIX).removesuffix(".v1") for event in self.published]


def furnish(api: Registered) -> None:
    """Models and a dataset with formats, frameworks, metrics, a producer, tags and labels."""
    for number in range(1, 7):
        api.register(
            f"model://demo/wine/{number}",
            format="mlflow" if number % 2 else "onnx",
            framework={"name": "scikit-learn", "version": f"1.{number}.0" + ("-rc1" if number == 6 else "")},
            metrics={"rmse": number / 10, "r2": 1 - number / 10},
            run="train-1" if number == 2 else None,
            step="fit" if number == 2 else None,
        )
    api.register("dataset://demo/wine/1", type="text/csv")
    api.register("model://other/wine/1", framework={"name": "torch"}, metrics={"rmse": 0.1})
    api.call("PUT", path("model://demo/wine/3", "tags", "best"))
    for label in ("reviewed", "eu"):
        api.call("PUT", path("model://demo/wine/3", "labels", label))
    api.call("PUT", path("model://demo/wine/4", "labels", "reviewed"))
