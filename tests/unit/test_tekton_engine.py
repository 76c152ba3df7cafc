"""Submit across crashes, cancel and forget, with a fake Kubernetes API over real HTTP."""

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
from tests.unit.tekton_runs import NAME, PLAN, SECRETS, api, condition, engine, engine_on, start_run

__all__ = ["api", "engine"]


def state(api: Api) -> dict[str, Any]:
    """The stored objects without generated fields; owners are identified by name."""
    uids = {stored["metadata"]["uid"]: name for (_, name), stored in api.objects.items()}
    entries = json.loads(json.dumps([[*key, value] for key, value in sorted(api.objects.items())]))
    for _, _, document in entries:
        for generated in ("uid", "resourceVersion", "creationTimestamp"):
            del document["metadata"][generated]
        for owner in document["metadata"].get("ownerReferences", []):
            owner["uid"] = uids[owner["uid"]]
    return {f"{kind}/{name}": document for kind, name, document in entries}


def check(api: Api) -> None:
    """The invariants: every Secret has an owner, and no PipelineRun runs without its Secret."""
    uids = {stored["metadata"]["uid"] for stored in api.objects.values()}
    for secret in api.all("secrets"):
        assert {owner["uid"] for owner in secret["metadata"]["ownerReferences"]} <= uids
    for pipeline_run in api.all("pipelineruns"):
        assert pipeline_run["spec"].get("status") == "PipelineRunPending" or ("secrets", NAME) in api.objects


def clean() -> tuple[dict[str, Any], int]:
    """The state after a submit without faults, and its number of requests."""
    api = Api()
    with engine_on(api) as engine:
        engine.submit(PLAN, SECRETS)
    return state(api), len(api.requests)


def test_a_run_with_secrets_is_a_released_pipeline_run_that_owns_its_secret() -> None:
    objects, requests = clean()
    assert requests == 3
    assert set(objects) == {f"pipelineruns/{NAME}", f"secrets/{NAME}"}
    assert "status" not in objects[f"pipelineruns/{NAME}"]["spec"]
    [owner] = objects[f"secrets/{NAME}"]["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": NAME, "uid": NAME, "controller": True}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fault", [Fault(), Fault(503), Fault(500)])
@pytest.mark.parametrize("number", range(3))
def test_a_submit_that_failed_at_any_point_is_completed_by_the_next(number: int, fault: Fault, after: bool) -> None:
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


def test_concurrent_submits_create_one_run(api: Api, engine: TektonEngine) -> None:
    with futures.ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(engine.submit, PLAN, SECRETS) for _ in range(24)]:
            future.result()
    assert state(api) == clean()[0]


def test_a_run_without_secrets_takes_one_request(api: Api, engine: TektonEngine) -> None:
    engine.submit(tekton_plans.PLANS["no-codeset"](), {})
    assert [(method, path) for method, path, _ in api.requests] == [
        ("POST", f"/apis/tekton.dev/v1/namespaces/{kubernetes_api.NAMESPACE}/pipelineruns")
    ]
    engine.submit(tekton_plans.PLANS["no-codeset"](), {})
    assert len(api.all("pipelineruns")) == 1


def test_secrets_are_sent_only_in_the_body_of_the_secret(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    requests = [json.dumps(request) for request in api.requests]
    assert [CANARY in text for text in requests] == [False, True, False]


def test_a_run_is_released_despite_concurrent_changes_by_tekton(api: Api, engine: TektonEngine) -> None:
    remaining = 3

    def reconcile(number: int, method: str, path: str) -> None:
        nonlocal remaining
        if method == "PATCH" and remaining:
            remaining -= 1
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = reconcile
    engine.submit(PLAN, SECRETS)
    assert "status" not in api.objects["pipelineruns", NAME]["spec"]


def test_the_release_of_a_run_that_changes_constantly_fails_temporarily(api: Api, engine: TektonEngine) -> None:
    def reconcile(number: int, method: str, path: str) -> None:
        if method == "PATCH":
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = reconcile
    with pytest.raises(errors.TemporaryError, match="changes too often"):
        engine.submit(PLAN, SECRETS)
    assert api.objects["pipelineruns", NAME]["spec"]["status"] == "PipelineRunPending"


def test_a_run_that_was_cancelled_before_its_release_stays_cancelled(api: Api, engine: TektonEngine) -> None:
    def cancel(number: int, method: str, path: str) -> None:
        if path.endswith("/secrets"):
            api.objects["pipelineruns", NAME]["spec"]["status"] = "Cancelled"
            api.put("pipelineruns", api.objects["pipelineruns", NAME])

    api.faults = cancel
    engine.submit(PLAN, SECRETS)
    assert api.objects["pipelineruns", NAME]["spec"]["status"] == "Cancelled"
    check(api)


def test_the_secret_of_a_deleted_run_is_not_reused(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    del api.objects["pipelineruns", NAME]  # the garbage collector deletes the Secret later
    with pytest.raises(errors.TemporaryError, match="of a deleted PipelineRun still exists"):
        engine.submit(PLAN, SECRETS)
    del api.objects["secrets", NAME]
    engine.submit(PLAN, SECRETS)
    assert state(api) == clean()[0]


def test_deleting_a_run_deletes_its_secret(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    api.delete("pipelineruns", NAME)
    assert not api.objects


def test_a_foreign_pipeline_run_of_the_same_name_is_not_changed(api: Api, engine: TektonEngine) -> None:
    api.put("pipelineruns", {"metadata": {"name": NAME}, "spec": {"status": "PipelineRunPending"}})
    with pytest.raises(errors.PermanentError, match=f"needs the name {NAME} for its PipelineRun, but another PipelineRun has this name"):
        engine.submit(PLAN, SECRETS)
    assert not api.all("secrets")


def test_a_plan_that_can_never_run_creates_nothing(api: Api, engine: TektonEngine) -> None:
    with pytest.raises(errors.PermanentError, match="was submitted without the secret"):
        engine.submit(PLAN, {})
    assert api.requests == []


def test_a_rejection_by_the_webhook_is_permanent_and_leaves_no_objects(api: Api, engine: TektonEngine) -> None:
    status, body = kubernetes_api.refusal(400, "BadRequest", "admission webhook denied the request: spec.pipelineSpec")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body))
    with pytest.raises(errors.InvalidError, match="denied the request"):
        engine.submit(PLAN, SECRETS)
    assert not api.objects


def test_a_run_whose_secret_is_rejected_is_cancelled(api: Api, engine: TektonEngine) -> None:
    status, body = kubernetes_api.refusal(403, "Forbidden", f"exceeded quota, and here is your secret: {CANARY}")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body)) if path.endswith("/secrets") else None
    with pytest.raises(errors.PermanentError, match="may not create secrets") as caught:
        engine.submit(PLAN, SECRETS)
    [remaining] = api.all("pipelineruns")
    assert remaining["spec"]["status"] == "Cancelled"
    assert CANARY not in json.dumps(remaining) + str(caught.value)


def test_cancelling_patches_the_run_and_stores_the_reason(api: Api, engine: TektonEngine) -> None:
    pipeline_run = start_run(api, engine, tekton_plans.PLANS["no-codeset"]())
    engine.cancel(tekton_plans.RUN_ID, "superseded by a newer commit")
    assert pipeline_run["spec"]["status"] == "Cancelled"
    assert pipeline_run["metadata"]["annotations"]["fuseml.io/cancel-reason"] == "superseded by a newer commit"


def test_cancelling_a_finished_or_unknown_run_does_nothing(api: Api, engine: TektonEngine) -> None:
    pipeline_run = start_run(api, engine, tekton_plans.PLANS["no-codeset"]())
    pipeline_run["status"]["conditions"] = [condition("True", "Succeeded")]
    engine.cancel(tekton_plans.RUN_ID, "too late")
    engine.cancel("feed", "never was")
    engine.cancel("no/label", "never can be")
    assert "status" not in pipeline_run["spec"]
    assert engine.observe("feed") == [] == engine.observe("no/label")


def test_a_run_that_finishes_while_it_is_cancelled_stays_finished(api: Api, engine: TektonEngine) -> None:
    pipeline_run = start_run(api, engine, tekton_plans.PLANS["no-codeset"]())

    def finish(number: int, method: str, path: str) -> None:
        if method == "PATCH":
            pipeline_run["status"]["conditions"] = [condition("True", "Succeeded")]

    api.faults = finish
    engine.cancel(tekton_plans.RUN_ID, "too late")
    assert "status" not in pipeline_run["spec"]


def test_a_rejected_cancel_raises_an_error(api: Api, engine: TektonEngine) -> None:
    start_run(api, engine, tekton_plans.PLANS["no-codeset"]())
    status, body = kubernetes_api.refusal(403, "Forbidden", "cannot patch")
    api.faults = lambda number, method, path: Fault(status, json.dumps(body)) if method == "PATCH" else None
    with pytest.raises(errors.PermanentError, match="may not patch pipelineruns"):
        engine.cancel(tekton_plans.RUN_ID, "now")


def test_forgetting_a_run_deletes_its_objects(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    with pytest.raises(errors.ConflictError, match="has not finished; cancel the run first"):
        engine.forget(PLAN.id)
    [pipeline_run] = api.all("pipelineruns")
    pipeline_run["status"] = {"conditions": [condition("True", "Succeeded", "")]}
    engine.forget(PLAN.id)
    assert api.objects == {}
    assert api.requests[-1][:2] == ("DELETE", f"/apis/tekton.dev/v1/namespaces/{kubernetes_api.NAMESPACE}/pipelineruns/{NAME}")
    engine.forget(PLAN.id)


def test_forgetting_a_run_that_is_deleted_concurrently_succeeds(api: Api, engine: TektonEngine) -> None:
    engine.submit(PLAN, SECRETS)
    [pipeline_run] = api.all("pipelineruns")
    pipeline_run["status"] = {"conditions": [condition("False", "Failed", "")]}

    def delete(number: int, method: str, path: str) -> None:
        if method == "DELETE":
            api.delete("pipelineruns", NAME)

    api.faults = delete
    engine.forget(PLAN.id)
