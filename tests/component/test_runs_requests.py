"""Requests for runs: impossible ones are refused at once, each other one makes one run, and the engine gets whole plans."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import sqlmodel
from flask.testing import FlaskClient

from fuseml.domain import events, plans
from fuseml.runtime import catalog
from fuseml.store import codesets, database, extensions, runs
from fuseml.store.tables import codeset_rows, outbox_rows
from tests.component.requesting import DOCUMENT, FIRST, NOON, SECOND, System, refused


@pytest.fixture
def system(store: database.Database, tmp_path: pathlib.Path) -> System:
    return System(store, tmp_path)


def test_a_run_starts_with_inputs_of_its_own_on_the_newest_commit(system: System) -> None:
    run = system.start(inputs={"alpha": 0.5})

    assert (run["name"], run["commit"], run["state"]) == ("train-1", FIRST, "queued")
    assert run["inputs"] == {"code": f"code://p/code/{FIRST}", "alpha": "0.5"}
    assert (run["trigger"]["kind"], run["trigger"]["action"], run["trigger"]["of"]) == ("run.requested", "start", None)
    [plan] = system.engine.plans
    assert (plan.id, plan.inputs) == (run["id"], {"alpha": "0.5"})
    assert system.engine.secrets == [{"minio/store/default/AWS_SECRET_ACCESS_KEY": "canary"}]


def test_a_repeated_request_makes_one_run_and_another_request_makes_another(system: System) -> None:
    body = {"workflow": "train", "project": "p", "codeset": "code"}
    system.runs.post("/runs", json=body)
    [event] = [event for event in system.events if event.type == events.RunRequested.TYPE]
    system.deliver(times=3)
    # Also without the record of handled events: the run records its request.
    with system.store.write() as session:
        for row in session.exec(sqlmodel.select(outbox_rows.HandledEvent)):
            session.delete(row)
    system.publish(event)
    system.deliver()
    assert [run["name"] for run in system.runs.get("/runs").get_json()] == ["train-1"]

    system.runs.post("/runs", json=body)
    system.deliver()
    assert [run["name"] for run in system.runs.get("/runs").get_json()] == ["train-2", "train-1"]


def test_a_rerun_replaces_the_inputs_that_it_is_given_and_keeps_the_others(system: System) -> None:
    system.start(inputs={"alpha": 0.5})
    assert system.request("/runs/train-1/rerun", {"inputs": {"alpha": 2}})["inputs"] == {"code": f"code://p/code/{FIRST}", "alpha": "2"}
    assert system.request("/runs/train-1/rerun")["inputs"]["alpha"] == "0.5"
    assert "has no such input (did you mean 'alpha'?)" in refused(
        system.runs.post("/runs/train-1/rerun", json={"inputs": {"alhpa": "1"}}), 400
    )
    both = system.runs.post("/runs/train-1/rerun", json={"inputs": {"alpha": "1"}, "locked": True})
    assert "give `locked` or `inputs`, not both" in refused(both, 400)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"workflow": "nothing"}, 404, "no workflow named 'nothing'"),
        ({"codeset": "nothing"}, 404, "no codeset p/nothing"),
        ({"codeset": None}, 400, "workflow 'train' runs on a codeset, and none was given"),
        ({"commit": "main"}, 400, "'main' is not a commit"),
        ({"inputs": {"alhpa": "1"}}, 400, "has no such input (did you mean 'alpha'?)"),
        ({"until": "nothing"}, 404, "has no step 'nothing'; its steps are prepare, fit"),
        ({"only": "fit"}, 409, "step 'fit' cannot run alone: it reads 'data' of step 'prepare'"),
        ({"only": "fit", "until": "fit"}, 400, "not both"),
        ({"wrokflow": "train"}, 400, "unknown key 'wrokflow'"),
    ],
)
def test_an_impossible_run_is_refused_at_once(system: System, body: dict[str, object], status: int, message: str) -> None:
    defaults = {"workflow": "train", "project": "p", "codeset": "code"}
    assert message in refused(system.runs.post("/runs", json={**defaults, **body}), status)
    assert system.events == []


def test_a_codeset_without_a_commit_is_refused(system: System) -> None:
    with system.store.write() as session:
        empty = codeset_rows.Codeset(project="p", name="empty", url="http://git/p/empty.git", webhook_secret="x", created=NOON)
        codesets.add_codeset(session, empty)
    body = {"workflow": "train", "project": "p", "codeset": "empty"}
    assert "nothing was pushed to the main branch of p/empty yet" in refused(system.runs.post("/runs", json=body), 409)
    assert system.runs.post("/runs", json={**body, "commit": SECOND}).status_code == 202


def test_a_selector_without_a_match_is_refused_at_once(system: System) -> None:
    with system.store.write() as session:
        extensions.remove(session, "minio")
    response = system.runs.post("/runs", json={"workflow": "train", "project": "p", "codeset": "code"})
    assert "step 'prepare': selector 'store' matches nothing" in refused(response, 422)


@pytest.mark.parametrize("gone", ["workflow", "codeset"])
def test_a_request_that_has_become_impossible_makes_a_failed_run_with_its_cause(system: System, gone: str) -> None:
    request = system.runs.post("/runs", json={"workflow": "train", "project": "p", "codeset": "code"}).get_json()["request"]
    if gone == "workflow":
        system.workflows.delete("/workflows/train")
    else:
        with system.store.write() as session:
            codesets.delete_codeset(session, "p", "code")
    system.deliver()

    [run] = system.runs.get(f"/runs?request={request}").get_json()
    assert run["state"] == "failed"
    assert ("no workflow named 'train'" if gone == "workflow" else "no codeset p/code") in run["cause"]
    assert system.engine.plans == []


def test_until_and_only_leave_out_the_other_steps(system: System) -> None:
    first = system.start(until="prepare")
    assert [step["name"] for step in first["steps"]] == ["prepare"]
    system.finish(first["name"], "succeeded", prepare={"data": "s3://data"})

    alone = system.request(f"/runs/{first['name']}/rerun", {"only": "fit"})

    assert [(step["name"], step["state"], step["reused_from"]) for step in alone["steps"]] == [
        ("prepare", "succeeded", "train-1"),
        ("fit", "queued", None),
    ]
    assert [step.name for step in system.engine.plans[-1].steps] == ["fit"]
    assert alone["steps"][0]["outputs"] == {"data": "s3://data"}


def test_a_rerun_uses_the_current_workflow_and_a_locked_one_the_stored_plan(system: System) -> None:
    first = system.start(inputs={"alpha": "2"})
    changed = DOCUMENT.replace("image: shell:1", "image: shell:2")
    assert system.workflows.put("/workflows/train", data=changed).get_json()["revision"] == 2

    latest = system.request("/runs/train-1/rerun")
    locked = system.request("/runs/train-1/rerun", {"locked": True})

    assert (latest["revision"], latest["inputs"], latest["commit"]) == (2, first["inputs"], FIRST)
    assert {step["image"] for step in latest["steps"]} == {"shell:2"}
    assert (latest["trigger"]["action"], latest["trigger"]["of"]) == ("rerun", "train-1")
    assert locked["revision"] == 1
    before, after = system.plan_of(first), system.plan_of(locked)
    assert (after.id, after.run) == (locked["id"], "train-3")
    assert after.model_dump_json().replace("train-3", "train-1").replace(after.id, before.id) == before.model_dump_json()


def test_a_resumed_run_executes_the_failed_steps_on_the_outputs_of_the_others(system: System) -> None:
    system.start()
    system.finish("train-1", "failed", prepare={"data": "s3://data"})

    run = system.request("/runs/train-1/resume", {"commit": SECOND, "images": {"fit": "shell:9"}})

    assert (run["name"], run["commit"], run["revision"]) == ("train-2", SECOND, 1)
    assert run["inputs"] == {"code": f"code://p/code/{SECOND}"}
    assert (run["trigger"]["action"], run["trigger"]["of"]) == ("resume", "train-1")
    prepare, fit = run["steps"]
    assert (prepare["state"], prepare["reused_from"], prepare["outputs"], prepare["image"]) == (
        "succeeded",
        "train-1",
        {"data": "s3://data"},
        "shell:1",
    )
    assert (fit["state"], fit["reused_from"], fit["image"]) == ("queued", None, "shell:9")
    [step] = system.engine.plans[-1].steps
    assert {variable.name: variable.value for variable in step.variables}["FUSEML_DATA"] == plans.text("s3://data")
    assert [checkout.commit for checkout in step.checkouts] == [SECOND]
    assert system.engine.secrets[-1] == {}
    # The log of a step belongs to the run that executed it.
    assert prepare["log"] == "/runs/train-1/logs/prepare"
    assert system.runs.get("/runs/train-2/logs/prepare").text == f"prepare of {system.engine.plans[0].id}\n"

    system.finish("train-2", "cancelled")
    again = system.request("/runs/train-2/resume")
    assert [(step["state"], step["reused_from"]) for step in again["steps"]] == [("succeeded", "train-1"), ("queued", None)]


def test_a_run_that_is_active_or_has_succeeded_is_not_resumed(system: System) -> None:
    system.start()
    assert "run train-1 is queued" in refused(system.runs.post("/runs/train-1/resume"), 409)
    system.finish("train-1", "succeeded", prepare={"data": "x"}, fit={"model": "y"})
    assert "there is nothing to resume" in refused(system.runs.post("/runs/train-1/resume"), 409)
    system.finish("train-1", "failed", prepare={"data": "x"})
    images = {"images": {"prepare": "shell:2"}}
    assert "step 'prepare' of train-1 has succeeded" in refused(system.runs.post("/runs/train-1/resume", json=images), 409)
    assert refused(system.runs.post("/runs/nothing-1/resume"), 404)


def test_a_run_without_a_plan_can_be_repeated_but_not_resumed(system: System) -> None:
    system.runs.post("/runs", json={"workflow": "train", "project": "p", "codeset": "code"})
    with system.store.write() as session:
        record = extensions.remove(session, "minio")
    system.deliver()
    with system.store.write() as session:
        extensions.add(session, record, NOON)

    for path, body in (("resume", {}), ("rerun", {"locked": True})):
        assert "run train-1 has no plan" in refused(system.runs.post(f"/runs/train-1/{path}", json=body), 409)
    assert system.request("/runs/train-1/rerun")["state"] == "queued"


def test_a_submit_request_of_the_sweep_submits_a_stored_run(system: System) -> None:
    system.start()
    with system.store.write() as session:
        runs.get(session, "train-1").submitted = None
    system.publish(events.event(events.RunRequested(request="tick/train-1", run="train-1"), NOON))
    system.deliver()
    assert [plan.run for plan in system.engine.plans] == ["train-1", "train-1"]
    assert len(system.runs.get("/runs").get_json()) == 1


def test_a_plan_that_the_engine_refuses_makes_a_failed_run(system: System) -> None:
    system.engine.refusal = "step 'fit' builds an image, and this engine builds no images"
    run = system.start()
    assert (run["state"], run["cause"]) == ("failed", system.engine.refusal)


# Plans, revisions and lint


def test_a_preview_of_a_plan_runs_nothing_and_only_names_secrets(system: System) -> None:
    response = system.workflows.post("/workflows/train/plan", json={"project": "p", "codeset": "code", "inputs": {"alpha": "3"}})
    plan = plans.Plan.model_validate(response.json)
    assert (plan.run, plan.inputs, [step.name for step in plan.steps]) == ("train-1", {"alpha": "3"}, ["prepare", "fit"])
    assert [part.key for part in plans.secret_refs(plan)] == ["AWS_SECRET_ACCESS_KEY"]
    assert "canary" not in response.text
    assert system.runs.get("/runs").json == []
    assert "no codeset p/nothing" in refused(
        system.workflows.post("/workflows/train/plan", json={"project": "p", "codeset": "nothing"}), 404
    )


def test_an_unknown_state_is_refused_with_the_known_ones(system: System) -> None:
    message = refused(system.runs.get("/runs?state=done"), 400)
    assert "state" in message and "'succeeded'" in message


def test_revisions_can_be_listed_read_and_compared(system: System) -> None:
    system.workflows.put("/workflows/train", data=DOCUMENT.replace('default: "1"', 'default: "2"'))
    assert [item["revision"] for item in system.workflows.get("/workflows/train/revisions").get_json()] == [2, 1]
    assert system.workflows.get("/workflows/train?revision=1").get_json()["inputs"][1]["default"] == "1"
    difference = system.workflows.get("/workflows/train/diff").text
    assert difference == system.workflows.get("/workflows/train/diff?from=1&to=2").text
    assert [line for line in difference.splitlines() if line[0] in "+-"][2:] == ["-  default: '1'", "+  default: '2'"]
    assert "has no revision 9" in refused(system.workflows.get("/workflows/train?revision=9"), 404)
    assert "has no revision 0" in refused(system.workflows.get("/workflows/train/diff?to=1"), 404)


def test_a_workflow_with_active_runs_is_deleted_by_force_and_its_runs_are_cancelled(system: System) -> None:
    system.start()
    assert "has 1 active runs" in refused(system.workflows.delete("/workflows/train", headers={catalog.CLIENT: "tests"}), 409)
    assert system.workflows.delete("/workflows/train?force=true").status_code == 204
    assert [event.data for event in system.events if event.type == events.RunCancelRequested.TYPE] == [
        {"run": "train-1", "reason": "workflow train was deleted"}
    ]
    assert refused(system.workflows.get("/workflows/train"), 404)


def dry_run(client: FlaskClient, text: str, method: str = "POST", path: str = "/workflows") -> dict[str, Any]:
    response = client.open(f"{path}?dry_run=true", method=method, data=text)
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def test_a_dry_run_reports_errors_and_warnings_and_stores_nothing(system: System) -> None:
    result = dry_run(
        system.workflows, DOCUMENT.replace("name: train", "name: other").replace("service_resource: s3", "service_resource: s4")
    )
    assert result["workflow"]["name"] == "other"
    [finding] = result["findings"]
    assert (finding["level"], finding["path"], finding["line"]) == ("warning", "steps[0].extensions[0]", 16)
    assert "matches nothing now: minio/store: its resource is s3, not s4" in finding["message"]
    assert refused(system.workflows.get("/workflows/other"), 404)

    broken = dry_run(system.workflows, DOCUMENT.replace("image:", "imgae:"), "PUT", "/workflows/train")
    assert broken["workflow"] is None
    assert {finding["suggestion"] for finding in broken["findings"]} == {"image", None}
    assert {finding["level"] for finding in broken["findings"]} == {"error"}
    assert system.workflows.get("/workflows/train").get_json()["revision"] == 1
    assert dry_run(system.workflows, "steps: [")["findings"][0]["level"] == "error"


def test_a_workflow_cannot_have_the_name_of_an_address_of_the_api(system: System) -> None:
    for name in ("schema", "runs", "assignments"):
        assert "is reserved for the API" in refused(
            system.workflows.post("/workflows", data=DOCUMENT.replace("name: train", f"name: {name}")), 400
        )
    assert system.workflows.get("/workflows/schema").get_json()["title"] == "FuseML workflow"
