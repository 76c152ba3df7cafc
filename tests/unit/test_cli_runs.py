"""Commands that request, follow and plan runs, against a real HTTP server with canned responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, Request, refused
from tests.unit.test_cli import one_line, variables

SHA = "3f2a91c4" * 5
QUEUED = {**canned_api.RUN, "name": "mlflow-e2e-2", "state": "queued", "finished": None}
SUCCEEDED: dict[str, object] = {
    **QUEUED,
    "state": "succeeded",
    "finished": "2026-01-01T10:01:05Z",
    "steps": [{"name": "builder", "state": "succeeded", "reused_from": "mlflow-e2e-1"}, {"name": "trainer", "state": "succeeded"}],
}
FAILED = {**SUCCEEDED, "state": "failed", "cause": "step 'trainer' failed: too hard"}
PLAN: dict[str, Any] = {
    "id": "",
    "run": "mlflow-e2e-2",
    "workflow": "mlflow-e2e",
    "revision": 2,
    "project": "demo",
    "inputs": {"predictor": "kserve"},
    "steps": [
        {
            "name": "trainer",
            "image": [{"kind": "output", "step": "builder", "output": "image"}],
            "needs": ["builder"],
            "checkouts": [{"project": "demo", "codeset": "diabetes", "commit": SHA}],
            "variables": [
                {"name": "FUSEML_PREDICTOR", "value": [{"kind": "text", "text": "kserve"}]},
                {
                    "name": "AWS_SECRET_ACCESS_KEY",
                    "value": [
                        {"kind": "secret", "extension": "minio", "service": "s3", "credentials": "default", "key": "AWS_SECRET_ACCESS_KEY"}
                    ],
                },
            ],
        }
    ],
    "outputs": {"url": [{"kind": "output", "step": "predictor", "output": "url"}]},
    "bindings": [{"step": "trainer", "binding": {"name": "store", "extension_id": "minio", "service_id": "s3", "url": "http://s3"}}],
}
WARNING = {"level": "warning", "path": "steps[0].image", "message": "the image has no tag", "line": 4, "column": 12, "suggestion": None}
ACCEPTED = Answer({"request": "r-1"}, 202)


def routes(finished: Mapping[str, object] = SUCCEEDED) -> dict[tuple[str, str], canned_api.Route]:
    return {
        **canned_api.CONTRACT,
        ("POST", "/runs"): ACCEPTED,
        ("POST", "/runs/mlflow-e2e-1/rerun"): ACCEPTED,
        ("POST", "/runs/mlflow-e2e-1/resume"): ACCEPTED,
        ("GET", "/runs"): canned_api.causing_no_run(
            lambda request: Answer([QUEUED] if request.query.get("request") == ["r-1"] else [canned_api.RUN])
        ),
        ("GET", "/runs/mlflow-e2e-2"): Answer(finished),
        ("POST", "/workflows/mlflow-e2e/plan"): Answer(PLAN),
        ("GET", "/workflows/mlflow-e2e/revisions"): Answer([{"revision": 2, "created": "2026-01-02T10:00:00Z"}]),
        ("GET", "/workflows/mlflow-e2e/diff"): Answer(b"--- old\n+++ new\n", headers={"Content-Type": "text/x-diff"}),
        ("POST", "/workflows"): Answer({"workflow": canned_api.WORKFLOW, "findings": [WARNING]}),
    }


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve(routes()) as running:
        yield running


@pytest.fixture(autouse=True)
def forgotten(server: CannedApi) -> None:
    server.requests.clear()


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


REQUESTS = [
    (
        f"workflow run mlflow-e2e -p demo -c diabetes --input predictor=a=b -i x= --commit {SHA}",
        "/runs",
        {"workflow": "mlflow-e2e", "project": "demo", "codeset": "diabetes", "commit": SHA, "inputs": {"predictor": "a=b", "x": ""}},
    ),
    ("workflow run -n mlflow-e2e --until trainer", "/runs", {"workflow": "mlflow-e2e", "until": "trainer"}),
    ("run rerun mlflow-e2e-1 --locked", "/runs/mlflow-e2e-1/rerun", {"locked": True}),
    ("run rerun mlflow-e2e-1 -i alpha=0.5 -i x=", "/runs/mlflow-e2e-1/rerun", {"inputs": {"alpha": "0.5", "x": ""}}),
    ("run rerun mlflow-e2e-1 --no-cache", "/runs/mlflow-e2e-1/rerun", {"no_cache": True}),
    ("workflow run mlflow-e2e --no-cache", "/runs", {"workflow": "mlflow-e2e", "no_cache": True}),
    ("run rerun mlflow-e2e-1 --only trainer", "/runs/mlflow-e2e-1/rerun", {"only": "trainer"}),
    ("run resume mlflow-e2e-1", "/runs/mlflow-e2e-1/resume", {}),
    (
        f"run resume mlflow-e2e-1 --with-commit {SHA} --with-image trainer=host/trainer:2",
        "/runs/mlflow-e2e-1/resume",
        {"commit": SHA, "images": {"trainer": "host/trainer:2"}},
    ),
]


@pytest.mark.parametrize(("line", "path", "body"), REQUESTS, ids=[line for line, *_ in REQUESTS])
def test_a_request_sends_the_options_and_prints_the_run(
    line: str, path: str, body: object, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, line) == 0
    assert capsys.readouterr().out == "Run mlflow-e2e-2 of mlflow-e2e is queued.\n"
    request = server.requests[0]
    assert (request.method, request.path, json.loads(request.body)) == ("POST", path, body)

    assert fuseml(server, tmp_path, f"{line} -o json") == 0
    assert json.loads(capsys.readouterr().out) == QUEUED


@pytest.mark.parametrize(("finished", "code"), [(SUCCEEDED, 0), (FAILED, 1)])
def test_waiting_follows_the_run_and_exits_by_its_state(
    finished: Mapping[str, object], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve(routes(finished)) as server:
        for line in ("run resume mlflow-e2e-1", "run rerun mlflow-e2e-1", "workflow run mlflow-e2e"):
            assert fuseml(server, tmp_path, f"{line} --wait") == code
            assert f"mlflow-e2e-2  {finished['state']}" in capsys.readouterr().out
            assert fuseml(server, tmp_path, f"{line} --wait -o yaml") == code
            assert yaml.safe_load(capsys.readouterr().out) == finished


def test_waiting_for_an_assignment_follows_the_run_that_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assigned: list[Request] = []

    def assign(request: Request) -> Answer:
        assigned.append(request)
        return Answer(status=201)

    listed = canned_api.causing_no_run(lambda _: Answer([QUEUED] if assigned else [canned_api.RUN]))
    changed = {("POST", "/workflows/assignments"): assign, ("GET", "/runs"): listed}
    with canned_api.serve({**routes(FAILED), **changed}) as server:
        assert fuseml(server, tmp_path, "workflow assign mlflow-e2e -p demo -c diabetes --wait") == 1
    assert "mlflow-e2e-2  failed" in capsys.readouterr().out


def test_waiting_follows_caused_runs_and_fails_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run succeeds; then its artifact starts another run, which fails."""
    reads: list[str] = []
    caused = {**FAILED, "name": "serve-1", "caused_by": "mlflow-e2e-2", "trigger": {"artifact": "model://demo/m/1"}, "steps": []}

    def first(_: Request) -> Answer:
        reads.append("first")
        return Answer({**SUCCEEDED, "settled": len(reads) > 2})

    def listed(request: Request) -> Answer:
        if "caused_by" not in request.query:
            return Answer([QUEUED])
        return Answer([caused] if request.query["caused_by"] == ["mlflow-e2e-2"] and len(reads) > 1 else [])

    changed: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/runs/mlflow-e2e-2"): first,
        ("GET", "/runs"): listed,
        ("GET", "/runs/serve-1"): Answer(caused),
    }
    with canned_api.serve({**routes(), **changed}) as server:
        assert fuseml(server, tmp_path, "run rerun mlflow-e2e-1 --wait") == 1
    lines = [line[10:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines[-2:] == [
        "serve-1  started by model://demo/m/1 of mlflow-e2e-2",
        "serve-1  failed  1m04s  step 'trainer' failed: too hard",
    ]
    assert "mlflow-e2e-2  succeeded  1m04s" in lines


def test_a_refused_request_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = refused(409, "conflict", "run mlflow-e2e-1 has succeeded, so there is nothing to resume")
    with canned_api.serve({**routes(), ("POST", "/runs/mlflow-e2e-1/resume"): refusal}) as server:
        assert fuseml(server, tmp_path, "run resume mlflow-e2e-1 --wait") == 1
    assert one_line(capsys) == "error: run mlflow-e2e-1 has succeeded, so there is nothing to resume\n"


def test_an_input_without_a_name_is_refused_before_anything_is_sent(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, "workflow run mlflow-e2e --input =x") == 1
    assert "'=x' names no input; write NAME=VALUE" in one_line(capsys)
    assert server.requests == []


def test_a_reused_step_is_shown_with_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(routes()) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
    assert "mlflow-e2e-1" in next(line for line in capsys.readouterr().out.splitlines() if "builder" in line)


def test_a_plan_shows_the_environment_with_secrets_by_name(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run plan mlflow-e2e -p demo -c diabetes -i predictor=kserve") == 0
    shown = capsys.readouterr().out
    assert "url: {{ steps.predictor.outputs.url }}" in shown
    assert "demo/diabetes 3f2a91c4" in shown
    assert "<secret minio/s3/default/AWS_SECRET_ACCESS_KEY>" in shown
    assert "minio/s3" in shown.partition("Bindings:")[2]
    assert fuseml(server, tmp_path, "run plan mlflow-e2e -o yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == PLAN


def test_the_reason_of_a_cancellation_is_sent(server: CannedApi, tmp_path: Path) -> None:
    assert fuseml(server, tmp_path, "run cancel mlflow-e2e-1 --reason obsolete") == 0
    assert server.requests[-1].query == {"reason": ["obsolete"]}


def test_a_plan_shows_reused_steps_and_reasons_for_execution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {**PLAN["steps"][0], "cache": {"paths": [], "content": {}, "not_reused": "changed since mlflow-e2e-1: image"}}
    plan = {
        **PLAN,
        "steps": [step],
        "reused": [{"name": "builder", "run": "mlflow-e2e-1", "image": [], "outputs": {"image": "trainer:1"}}],
    }
    with canned_api.serve({**routes(), ("POST", "/workflows/mlflow-e2e/plan"): Answer(plan)}) as server:
        assert fuseml(server, tmp_path, "run plan mlflow-e2e") == 0
    reused, _, steps = capsys.readouterr().out.partition("\nSteps:")
    assert reused.partition("Reused:")[2].split() == ["NAME", "RUN", "OUTPUTS", "builder", "mlflow-e2e-1", "image:", "trainer:1"]
    assert "NOT REUSED BECAUSE" in steps
    assert "changed since mlflow-e2e-1: image" in steps


def text(value: str) -> list[dict[str, str]]:
    return [{"kind": "text", "text": value}]


def test_a_plan_shows_resources_conditions_and_questions_of_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    when = {
        "input": [{"kind": "output", "step": "builder", "output": "score"}],
        "operator": "notin",
        "values": [text("bad")],
    }
    step = {**PLAN["steps"][0], "when": [when], "approval": {"message": text("serve\nit?"), "when": [when], "expires": 5_400}}
    step["resources"] = {"requests": {"cpu": "4", "nvidia.com/gpu": "2"}, "limits": {"memory": "16Gi", "nvidia.com/gpu": "2"}}
    silent = {**step, "name": "other", "when": [], "approval": {"message": [], "when": [], "expires": None}}
    with canned_api.serve({**routes(), ("POST", "/workflows/mlflow-e2e/plan"): Answer({**PLAN, "steps": [step, silent]})}) as server:
        assert fuseml(server, tmp_path, "run plan mlflow-e2e") == 0
    shown = capsys.readouterr().out
    assert "{{ steps.builder.outputs.score }} notin bad" in shown
    assert "4 cpu, at most 16Gi memory, 2 nvidia.com/gpu" in shown
    assert "serve it? (if {{ steps.builder.outputs.score }} notin bad) (within 1h30m)" in shown
    assert "an approval is needed" in shown


def test_revisions_are_listed_read_and_compared(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "workflow revisions mlflow-e2e -o json") == 0
    assert [item["revision"] for item in json.loads(capsys.readouterr().out)] == [2]
    assert fuseml(server, tmp_path, "workflow get mlflow-e2e --revision 1 -o json") == 0
    assert server.requests[-1].query == {"revision": ["1"]}
    capsys.readouterr()
    assert fuseml(server, tmp_path, "workflow diff mlflow-e2e 1 2") == 0
    assert (server.requests[-1].query, capsys.readouterr().out) == ({"from": ["1"], "to": ["2"]}, "--- old\n+++ new\n")
    assert fuseml(server, tmp_path, "workflow diff mlflow-e2e") == 0
    assert server.requests[-1].query == {}
    assert fuseml(server, tmp_path, "workflow delete mlflow-e2e --force") == 0
    assert server.requests[-1].query == {"force": ["true"]}


@pytest.mark.parametrize(("assignments", "suffix"), [([canned_api.ASSIGNMENT], "\n"), ([], ", once it is assigned to a codeset\n")])
def test_a_scheduled_workflow_shows_its_next_time(
    assignments: list[object], suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduled = {**canned_api.WORKFLOW, "on": {"schedule": "0 3 * * *"}, "inputs": [{"name": "code", "type": "codeset"}]}
    changed = {("GET", "/workflows/mlflow-e2e"): Answer(scheduled), ("GET", "/workflows/assignments"): Answer(assignments)}
    with canned_api.serve({**routes(), **changed}) as server:
        assert fuseml(server, tmp_path, "workflow get mlflow-e2e") == 0
    shown = capsys.readouterr().out
    assert "Schedule:    0 3 * * *\n" in shown
    assert f" 03:00 UTC{suffix}" in shown


def test_a_run_shows_its_scheduled_time_and_the_run_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trigger = {"kind": "schedule.reached", "due": "2026-01-01T03:00:00Z"}
    waiting = {**QUEUED, "trigger": trigger, "waits_for": "train-1", "concurrency_group": "demo/gpu"}
    with canned_api.serve({**routes(), ("GET", "/runs/mlflow-e2e-2"): Answer(waiting), ("GET", "/runs"): Answer([waiting])}) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
        assert "schedule, 2026-01-01 03:00 UTC" in capsys.readouterr().out
        assert fuseml(server, tmp_path, "run list") == 0
        assert "waits for train-1 of group demo/gpu" in capsys.readouterr().out


SOUND = "name: train\nsteps:\n  - name: fit\n    image: trainer:1\n    script: train\n"
BROKEN = SOUND.replace("image:", "imgae:")


def test_lint_without_a_server_checks_the_document_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, broken = tmp_path / "sound.yaml", tmp_path / "broken.yaml"
    sound.write_text(SOUND.replace("trainer:1", "trainer"))
    broken.write_text(BROKEN)
    offline = variables(tmp_path, "http://127.0.0.1:1")

    assert main.run(["workflow", "lint", str(sound)], offline) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{sound}:4:5: warning: steps[0].image: ")
    assert printed.err.splitlines()[0].startswith("Selectors are not checked: no FuseML server answers")
    assert printed.err.splitlines()[1] == "1 warning in 1 file."
    assert main.run(["workflow", "lint", "--strict", "--offline", str(sound)], offline) == 1
    assert capsys.readouterr().err == "1 warning in 1 file.\n"

    assert main.run(["workflow", "lint", str(sound), str(broken), "-o", "json", "--offline"], offline) == 1
    found = json.loads(capsys.readouterr().out)
    assert {(Path(item["file"]).name, item["level"]) for item in found} == {("sound.yaml", "warning"), ("broken.yaml", "error")}
    assert set(found[0]) == {"file", *WARNING}


def test_lint_with_a_server_shows_its_findings(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "w.yaml"
    document.write_text(SOUND)
    assert fuseml(server, tmp_path, f"workflow lint {document} -p demo") == 0
    assert capsys.readouterr().out == f"{document}:4:12: warning: steps[0].image: the image has no tag\n"
    [request] = server.requests
    assert (request.query, request.body.decode()) == ({"dry_run": ["true"], "project": ["demo"]}, SOUND)
    document.write_text(BROKEN)
    assert fuseml(server, tmp_path, f"workflow lint {document}") == 1
    assert len(server.requests) == 1
