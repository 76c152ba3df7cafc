"""Submitting across crashes, and cancelling, against a small Kubernetes API over real HTTP."""

from __future__ import annotations

import dataclasses
import json
from concurrent import futures
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.engines.tekton import TektonEngine
from tests.unit import kubernetes_api, tekton_plans
from tests.unit.kubernetes_api import Api, Fault
from tests.unit.tekton_plans import CANARY
from tests.unit.tekton_runs import NAME, PLAN, SECRETS, api, condition, engine, engine_on, started

__all__ = ["api", "engine"]


def state(api: Api) -> dict[str, Any]:
    """What is there, without what the server made up; who owns what is reported by name."""
    uids = {found["metadata"]["uid"]: name for (_, name), found in api.objects.items()}
    found = json.loads(json.dumps([[*key, value] for key, value in sorted(api.objects.items())]))
    for _, _, document in found:
        for made in ("uid", "resourceVersion", "creationTimestamp"):
            del document["metadata"][made]
        for owner in document["metadata"].get("ownerReferences", []):
            owner["uid"] = uids[owner["uid"]]
    return {f"{kind}/{name}": document for kind, name, document in found}


def check(api: Api) -> None:
    """What must be true at every moment: nothing without an owner, nothing that runs without its Secret."""
    uids = {found["metadata"]["uid"] for found in api.objects.values()}
    for secret in api.all("secrets"):
        assert {owner["uid"] for owner in secret["metadata"]["ownerReferences"]} <= uids
    for pipeline_run in api.all("pipelineruns"):
        assert pipeline_run["spec"].get("status") == "PipelineRunPending" or ("secrets", NAME) in api.objects


def clean() -> tuple[dict[str, Any], int]:
    """The state after an undisturbed submission, and how many requests it takes."""
    api = Api()
    with engine_on(api) as engine:
        engine.submit(PLAN, SECRETS)
    return state(api), len(api.requests)


def test_a_run_with_secrets_is_a_released_pipeline_run_that_owns_its_secret() -> None:
    found, requests = clean()
    assert requests == 3
    assert set(found) == {f"pipelineruns/{NAME}", f"secrets/{NAME}"}
    assert "status" not in found[f"pipelineruns/{NAME}"]["spec"]
    [owner] = found[f"secrets/{NAME}"]["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": NAME, "uid": NAME, "controller": True}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fault", [Fault(), Fault(503), Fault(500)])
@pytest.mark.parametrize("number", range(3))
def test_a_submission_that_broke_anywhere_is_completed_by_the_next_one(number: int, fault: Fault, after: bool) -> None:
    api = Api()
    broken = dataclasses.replace(fault, after=after)
    api.faults = lambda current, method, path: broken if current == number else None
    with engine_on(api) as engine:
        with pytest.raises(errors.TemporaryError):
            engine.submit(PLAN, SECRETS)
        check(api)
    with engine_on(api) as another:
        another.submit(PLAN, SECRETS)
        check(api)
        assert state(api) == clean()[0]
        another.submit(PLAN, SECRETS)
        assert state(api) == clean()[0]


def test_many_that_submit_at_once_make_one_run(api: Api, engine: TektonEngine) -> None:
    with futures.ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(engine.submit, PLAN, SECRETS) for _ in range(24)]:
            done.result()
    assert state(api) == clean()[0]


def test_a_run_without_secrets_takes_one_request(api: Api, engine: TektonEngine) -> None:
    engine.submit(tekton_plans.PLANS["no-codeset"](), {})
    assert [(method, path) for method, path, _ in api.requests] == [
        ("POST", f"/apis/tekton.dev/v1/namespaces/{kubernetes_api.NAMESPACE}/pipelineruns")
    ]
    engine.submit(tekton_plans.PLANS["no-codeset"](), {})
    assert len(api.all("pipelineruns")) == 1


def test_secrets_are_sent_in_the_body_of_the_secret_only(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    reported = [json.dumps(request) for request in api.requests]
    assert [CANARY in text for text in reported] == [False, True, False]


def test_changes_by_tekton_do_not_keep_a_run_from_being_released(api: Api, engine: TektonEngine) -> None:
    left = 3

    def reconcile(number: int, method: str, path: str) -> None:
        nonlocal left
        if method == "PATCH" and left:
            left -= 1
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = reconcile
    engine.submit(PLAN, SECRETS)
    assert "status" not in api.objects["pipelineruns", NAME]["spec"]


def test_a_run_that_changes_all_the_time_is_released_later(api: Api, engine: TektonEngine) -> None:
    def reconcile(number: int, method: str, path: str) -> None:
        if method == "PATCH":
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = reconcile
    with pytest.raises(errors.TemporaryError, match="changes too often"):
        engine.submit(PLAN, SECRETS)
    assert api.objects["pipelineruns", NAME]["spec"]["status"] == "PipelineRunPending"


def test_a_run_that_was_cancelled_before_its_release_stays_cancelled(api: Api, engine: TektonEngine) -> None:
    def cancelled(number: int, method: str, path: str) -> None:
        if path.endswith("/secrets"):
            api.objects["pipelineruns", NAME]["spec"]["status"] = "Cancelled"
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = cancelled
    engine.submit(PLAN, SECRETS)
    assert api.objects["pipelineruns", NAME]["spec"]["status"] == "Cancelled"
    check(api)


def test_the_secret_of_a_deleted_run_is_not_taken_for_that_of_its_successor(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    del api.objects["pipelineruns", NAME]  # the garbage collector comes later
    with pytest.raises(errors.TemporaryError, match="of a deleted PipelineRun still exists"):
        engine.submit(PLAN, SECRETS)
    del api.objects["secrets", NAME]
    engine.submit(PLAN, SECRETS)
    assert state(api) == clean()[0]


def test_deleting_a_run_deletes_its_secret(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    api.delete("pipelineruns", NAME)
    assert not api.objects


def test_somebody_elses_pipeline_run_of_the_name_is_not_touched(api: Api, engine: TektonEngine) -> None:
    api.put("pipelineruns", {"metadata": {"name": NAME}, "spec": {"status": "PipelineRunPending"}})
    with pytest.raises(errors.PermanentError, match=f"needs the name {NAME} for its PipelineRun, but another PipelineRun has this name"):
        engine.submit(PLAN, SECRETS)
    assert not api.all("secrets")


def test_a_plan_that_can_never_run_creates_nothing(api: Api, engine: TektonEngine) -> None:
    with pytest.raises(errors.PermanentError, match="was submitted without the secret"):
        engine.submit(PLAN, {})
    assert api.requests == []


def test_what_the_webhook_refuses_is_permanent_and_leaves_nothing(api: Api, engine: TektonEngine) -> None:
    status, body = kubernetes_api.refusal(400, "BadRequest", "admission webhook denied the request: spec.pipelineSpec")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body))
    with pytest.raises(errors.InvalidError, match="denied the request"):
        engine.submit(PLAN, SECRETS)
    assert not api.objects


def test_a_run_whose_secret_is_refused_does_not_wait_for_ever(api: Api, engine: TektonEngine) -> None:
    status, body = kubernetes_api.refusal(403, "Forbidden", f"exceeded quota, and here is your secret: {CANARY}")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body)) if path.endswith("/secrets") else None
    with pytest.raises(errors.PermanentError, match="may not create secrets") as caught:
        engine.submit(PLAN, SECRETS)
    [left] = api.all("pipelineruns")
    assert left["spec"]["status"] == "Cancelled"
    assert CANARY not in json.dumps(left) + str(caught.value)


def test_cancelling_patches_the_run_and_keeps_the_reason(api: Api, engine: TektonEngine) -> None:
    found = started(api, engine, tekton_plans.PLANS["no-codeset"]())
    engine.cancel(tekton_plans.RUN_ID, "superseded by a newer commit")
    assert found["spec"]["status"] == "Cancelled"
    assert found["metadata"]["annotations"]["fuseml.io/cancel-reason"] == "superseded by a newer commit"


def test_cancelling_a_finished_or_unknown_run_does_nothing(api: Api, engine: TektonEngine) -> None:
    found = started(api, engine, tekton_plans.PLANS["no-codeset"]())
    found["status"]["conditions"] = [condition("True", "Succeeded")]
    engine.cancel(tekton_plans.RUN_ID, "too late")
    engine.cancel("feed", "never was")
    engine.cancel("no/label", "never can be")
    assert "status" not in found["spec"]
    assert engine.observe("feed") == [] == engine.observe("no/label")


def test_a_run_that_finishes_while_it_is_cancelled_stays_finished(api: Api, engine: TektonEngine) -> None:
    found = started(api, engine, tekton_plans.PLANS["no-codeset"]())

    def finish(number: int, method: str, path: str) -> None:
        if method == "PATCH":
            found["status"]["conditions"] = [condition("True", "Succeeded")]

    api.faults = finish
    engine.cancel(tekton_plans.RUN_ID, "too late")
    assert "status" not in found["spec"]


def test_a_refused_cancellation_is_told(api: Api, engine: TektonEngine) -> None:
    started(api, engine, tekton_plans.PLANS["no-codeset"]())
    status, body = kubernetes_api.refusal(403, "Forbidden", "cannot patch")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body)) if method == "PATCH" else None
    with pytest.raises(errors.PermanentError, match="may not patch pipelineruns"):
        engine.cancel(tekton_plans.RUN_ID, "now")


def test_what_is_forgotten_is_gone_with_all_that_it_owns(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    with pytest.raises(errors.ConflictError, match="has not finished; cancel the run first"):
        engine.forget(PLAN.id)
    [found] = api.all("pipelineruns")
    found["status"] = {"conditions": [condition("True", "Succeeded", "")]}
    engine.forget(PLAN.id)
    assert api.objects == {}
    assert api.requests[-1][:2] == ("DELETE", f"/apis/tekton.dev/v1/namespaces/{kubernetes_api.NAMESPACE}/pipelineruns/{NAME}")
    engine.forget(PLAN.id)


def test_a_run_that_somebody_else_deletes_meanwhile_is_forgotten(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    [found] = api.all("pipelineruns")
    found["status"] = {"conditions": [condition("False", "Failed", "")]}

    def overtake(number: int, method: str, path: str) -> None:
        if method == "DELETE":
            api.delete("pipelineruns", NAME)

    api.faults = overtake
    engine.forget(PLAN.id)
