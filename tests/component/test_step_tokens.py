"""Tokens of steps against every operation of the API: good for the own applications of the own run, while its step runs, and for nothing else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.test import Client, TestResponse

from fuseml.domain import plans
from fuseml.domain.plans import former
from fuseml.domain.registry import extension
from fuseml.embedded import composition
from fuseml.runtime import secrets
from fuseml.store import applications, database, runs
from fuseml.usecases import step_identity

NOW = "2026-01-01T00:00:00Z"
ALLOWED = {("POST", "/applications"), ("GET", "/applications/<name>")}
ANY = {("GET", "/whoami")}
"""What every token of a step may do."""


def plan(run: str, project: str, number: int = 1) -> plans.Plan:
    """Steps with each kind of token: for applications, for tracking, and without any."""
    token = (plans.step_token("predictor"),)
    predictor = plans.StepPlan(name="predictor", image=plans.text("i"), variables=(plans.Variable(name="FUSEML_API_TOKEN", value=token),))
    tracked = (plans.Variable(name="MLFLOW_TRACKING_TOKEN", value=(plans.step_token("trainer"),)),)
    trainer = plans.StepPlan(name="trainer", image=plans.text("i"), variables=tracked)
    other = plans.StepPlan(name="builder", image=plans.text("i"))
    identity = f"{run}-id" if number == 1 else f"{run}-id.{number}"
    return plans.Plan(id=identity, run=run, project=project, workflow="train", revision=1, steps=(predictor, trainer, other))


@dataclass
class Installation:
    parts: composition.Parts
    client: Client
    functions: dict[str, flask.Flask]
    plans: dict[str, plans.Plan] = field(default_factory=dict)

    @property
    def store(self) -> database.Database:
        return self.parts.state.store

    def run(self, name: str, project: str = "demo", codeset: str | None = "wine", execution: int = 1) -> None:
        with self.store.write() as session:
            row = runs.Run(
                id=f"{name}-id",
                name=name,
                sequence=0,
                workflow="train",
                revision=1,
                project=project,
                codeset=codeset,
                trigger={},
                inputs={},
                state="running",
                execution=execution,
                created=NOW,
            )
            runs.add(session, row, ["builder", "trainer", "predictor"])
        self.plans[name] = plan(name, project, execution)

    def token(self, run: str, step: str = "predictor") -> str:
        return step_identity.issue(self.parts.state.keyring, self.plans[run], step)

    def set_run(self, name: str, **fields: object) -> None:
        with self.store.write() as session:
            row = runs.get(session, name)
            for key, value in fields.items():
                setattr(row, key, value)
            session.add(row)

    def set_step(self, run: str, step: str, **fields: object) -> None:
        with self.store.write() as session:
            row = session.get_one(runs.StepRun, (f"{run}-id", step))
            for key, value in fields.items():
                setattr(row, key, value)
            session.add(row)

    def call(self, token: str, method: str, path: str, body: object = None) -> TestResponse:
        return self.client.open(path, method=method, json=body, headers={"Authorization": f"Bearer {token}"})

    def register(self, token: str, name: str = "wine", **fields: object) -> TestResponse:
        application = {"name": name, "type": "predictor", "workflow": "train", **fields}
        return self.call(token, "POST", "/applications", application)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Installation]:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=False, environment={})
    with contextlib.closing(parts.state.store):
        functions = dict(parts.gateway.functions)
        made = Installation(parts, Client(parts.gateway), functions)
        made.run("train-1")
        made.run("other-1", project="other")
        yield made


def operations(server: Installation) -> list[tuple[str, str]]:
    """Every operation that needs a token."""
    return [
        (operation.method, operation.path)
        for app in server.functions.values()
        for operation in app.extensions["fuseml"].operations
        if not operation.public and app.extensions["fuseml"].requires_token
    ]


def test_every_operation_but_three_is_closed_to_steps(server: Installation) -> None:
    listed = operations(server)
    assert {*ALLOWED, *ANY} < {*listed}
    assert len(listed) > 60
    for step in ("predictor", "trainer", "builder"):
        token = server.token("train-1", step)
        for method, path in listed:
            if (method, path) in ANY or (step == "predictor" and (method, path) in ALLOWED):
                continue
            concrete = re.sub(r"<(?:\w+:)?\w+>", "train-1", path)
            assert server.call(token, method, concrete, {}).status_code == 403, (step, method, path)


def test_each_caller_sees_who_it_is(server: Installation) -> None:
    assert server.call("admin", "GET", "/whoami").json == {"name": "admin", "role": "admin", "kind": "user", "scopes": ["*"], "step": None}
    expected = {"predictor": ["applications"], "trainer": ["tracking"], "builder": []}
    for step, scopes in expected.items():
        seen: Any = server.call(server.token("train-1", step), "GET", "/whoami").json
        assert (seen["name"], seen["role"], seen["kind"], seen["scopes"]) == (f"step {step} of train-1", "step", "step", scopes)
        assert seen["step"] == {"project": "demo", "workflow": "train", "run": "train-1", "step": step}
    token = server.token("train-1")
    server.set_run("train-1", state="succeeded")
    assert server.call(token, "GET", "/whoami").status_code == 401
    assert server.call("wrong", "GET", "/whoami").status_code == 401
    assert server.client.get("/whoami").status_code == 401


def test_the_application_of_a_step_gets_the_origin_of_the_step(server: Installation) -> None:
    answer = server.register(server.token("train-1"))
    assert answer.status_code == 201, answer.text
    seen: Any = answer.json
    assert (seen["project"], seen["codeset"], seen["workflow"], seen["run"]) == ("demo", "wine", "train", "train-1")
    assert server.call(server.token("train-1"), "GET", "/applications/wine").status_code == 200


@pytest.mark.parametrize("claim", [{"project": "other"}, {"codeset": "beer"}, {"run": "other-1"}, {"workflow": "serve"}])
def test_a_step_claims_no_other_origin(server: Installation, claim: dict[str, str]) -> None:
    refused = server.register(server.token("train-1"), **claim)
    assert refused.status_code == 403
    assert "registers applications of its own" in refused.text


def test_names_of_other_owners_are_neither_replaced_nor_shown_to_steps(server: Installation) -> None:
    server.run("beer-1", codeset="beer")
    assert server.register(server.token("train-1")).status_code == 201
    for stranger in ("other-1", "beer-1"):
        refused = server.register(server.token(stranger))
        assert (refused.status_code, "belongs to the" in refused.text) == (409, True)
        known = server.call(server.token(stranger), "GET", "/applications/wine")
        unknown = server.call(server.token(stranger), "GET", "/applications/none")
        assert known.status_code == unknown.status_code == 403
        assert known.json["message"].replace("'wine'", "X") == unknown.json["message"].replace("'none'", "X")  # type: ignore[index]
    with server.store.read() as session:
        assert applications.get(session, "wine").document["project"] == "demo"


def test_an_administrator_does_not_move_an_application_to_another_project_by_name(server: Installation) -> None:
    assert server.register(server.token("train-1")).status_code == 201
    assert server.register("admin", project="other").status_code == 409
    kept: Any = server.register("admin", description="by hand").json
    assert (kept["project"], kept["codeset"], kept["description"]) == ("demo", "wine", "by hand")
    assert server.call("admin", "DELETE", "/applications/wine").status_code == 204
    assert server.register("admin", project="other").status_code == 201


@pytest.mark.parametrize(
    "end",
    [
        *({"state": state} for state in ("succeeded", "failed", "cancelled", "skipped")),
        {"cancelled": "enough"},
        {"step": "succeeded"},
        {"step": "failed"},
        {"execution": 2},
        {"forgotten": True},
    ],
    ids=str,
)
def test_a_token_ends_with_its_run_and_its_step(server: Installation, end: dict[str, Any]) -> None:
    token = server.token("train-1")
    assert server.register(token).status_code == 201
    if "step" in end:
        server.set_step("train-1", "predictor", state=end["step"])
    elif "execution" in end:
        server.set_step("train-1", "predictor", execution=2)
    elif "forgotten" in end:
        with server.store.write() as session:
            session.delete(runs.get(session, "train-1"))
    else:
        server.set_run("train-1", **end)
    for answer in (server.register(token, description="late"), server.call(token, "GET", "/applications/wine")):
        assert answer.status_code == 401, answer.text
        assert "ended" in answer.text or "not known any more" in answer.text


def test_each_run_has_other_tokens_and_a_repeated_submission_the_same(server: Installation) -> None:
    server.run("train-2")
    tokens = [server.token(run, step) for run in ("train-1", "train-2", "other-1") for step in ("predictor", "trainer")]
    assert len({*tokens}) == len(tokens)
    assert server.token("train-1") == server.token("train-1")
    server.set_run("train-1", state="succeeded")
    assert server.register(server.token("train-2")).status_code == 201


def test_a_later_execution_of_a_run_has_its_own_token(server: Installation) -> None:
    server.run("train-3", execution=2)
    assert server.register(server.token("train-3")).status_code == 201
    server.plans["train-3"] = plan("train-3", "demo", 1)
    assert server.register(server.token("train-3")).status_code == 401


def test_a_changed_or_foreign_token_is_refused(server: Installation) -> None:
    token = server.token("train-1")
    prefix, text, signature = re.fullmatch(r"(fuseml-step\.)([^.]+)\.(.+)", token).groups()  # type: ignore[union-attr]
    own, other = server.parts.state.keyring, secrets.Keyring([secrets.new_key()])
    forged = [
        f"{prefix}{text}",
        f"{prefix}{text}.",
        f"{prefix}{text}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{prefix}{text[:-1]}.{signature}",
        f"{prefix}{text}.{other.sign('step', text)}",
        f"{prefix}{text}.{own.sign('other purpose', text)}",
        f"{prefix}bm90anNvbg.{own.sign('step', 'bm90anNvbg')}",
        f"{prefix}.{signature}",
        prefix,
        prefix + "a" * 100_000,
    ]
    for number, attempt in enumerate(forged):
        assert server.register(attempt).status_code == 401, number


def test_tokens_outlive_a_rotation_of_the_keys(server: Installation) -> None:
    before = server.token("train-1")
    server.parts.state.renew_keys()
    after = server.token("train-1")
    assert before != after
    assert [server.register(token).status_code for token in (before, after)] == [201, 201]


def test_a_stored_plan_of_a_former_release_gets_tokens_of_its_steps() -> None:
    shared = plans.SecretPart(extension="fuseml", service="serving", credentials="workload", key="FUSEML_API_TOKEN")
    variables = (plans.Variable(name="FUSEML_API_TOKEN", value=(shared,)), plans.Variable(name="A", value=plans.text("a")))
    steps = tuple(plans.StepPlan(name=name, image=plans.text("i"), variables=variables) for name in ("one", "two"))
    stored = plans.Plan(id="i", run="r", project="p", workflow="w", revision=1, steps=steps)
    renewed = former.with_step_tokens(stored)
    assert [part.token_of for part in plans.secret_refs(renewed)] == ["one", "two"]
    assert [plans.token_scopes(step) for step in renewed.steps] == [["applications"], ["applications"]]
    assert former.with_step_tokens(renewed) == renewed


def test_the_mark_of_the_record_becomes_a_secret_of_the_plan() -> None:
    assert extension.STEP_TOKEN not in plan("train-1", "demo").model_dump_json()
    assert plans.token_scopes(plan("train-1", "demo").step("predictor")) == ["applications"]
    assert plans.token_scopes(plan("train-1", "demo").step("builder")) == []


def test_a_token_of_this_server_becomes_no_credentials_of_a_tool(server: Installation) -> None:
    def service(**parts: object) -> dict[str, object]:
        return {"id": "s", "resource": "mlflow-tracking", **parts}

    stolen = {"id": "c", "configuration": {"MLFLOW_TRACKING_TOKEN": "admin"}}
    spread = {"url": "http://x", "type": "internal", "configuration": {"TOKEN": "admin"}}
    good = {"id": "mlflow", "services": [service(credentials=[{"id": "c", "configuration": {"KEY": "other"}}])]}
    assert server.call("admin", "POST", "/extensions", good).status_code == 201
    refused = [
        server.call("admin", "POST", "/extensions", {"id": "x", "services": [service(credentials=[stolen])]}),
        server.call("admin", "POST", "/extensions", {"id": "x", "services": [service(endpoints=[spread])]}),
        server.call("admin", "POST", "/extensions/mlflow/services", service(credentials=[stolen]) | {"id": "t"}),
        server.call("admin", "POST", "/extensions/mlflow/services/s/credentials", stolen | {"id": "d"}),
        server.call("admin", "PUT", "/extensions/mlflow/services/s/credentials/c", {"configuration": {"KEY": "admin"}}),
        server.call("admin", "PUT", "/extensions/mlflow?replace=true", {"id": "mlflow", "services": [service(credentials=[stolen])]}),
        server.call("admin", "PUT", "/extensions/mlflow", {"services": [service(credentials=[stolen])]}),
    ]
    assert [(answer.status_code, "is an API token of this server" in answer.text) for answer in refused] == [(400, True)] * len(refused)
