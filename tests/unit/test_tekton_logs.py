"""Logs of steps: chunks, attempts, containers and masked secrets."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.engines import LogChunk
from fuseml.engines.tekton import TektonEngine
from tests.unit import tekton_plans
from tests.unit.kubernetes_api import Api
from tests.unit.tekton_plans import CANARY
from tests.unit.tekton_runs import NAME, PLAN, SECRETS, api, condition, engine, start_run, task_run

__all__ = ["api", "engine"]


def start_logged_run(api: Api, engine: TektonEngine, **status: Any) -> None:
    """Start a run of one step with a secret, and store its TaskRun."""
    pipeline_run = start_run(api, engine, PLAN, SECRETS)
    task_run(api, pipeline_run, "upload", **status)


RUNNING = {"conditions": [condition("Unknown", "Running")], "podName": "p-2"}
ENDED = {"conditions": [condition("True", "Succeeded")], "podName": "p-2"}


def test_a_log_is_read_in_chunks_while_the_step_runs(api: Api, engine: TektonEngine) -> None:
    start_logged_run(api, engine, **RUNNING)
    api.pods["p-2", "step-run"] = None  # its image is being pulled
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"", 0, complete=False)
    api.pods["p-2", "step-run"] = b"one\ntwo\n"
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"one\ntwo\n", 8, complete=False)
    assert engine.logs(PLAN.id, "upload", 4, limit=2) == LogChunk(b"tw", 6, complete=False)
    api.objects["taskruns", f"{NAME}-upload"]["status"] = ENDED
    assert engine.logs(PLAN.id, "upload", 6) == LogChunk(b"o\n", 8, complete=True)
    assert engine.logs(PLAN.id, "upload", 8) == LogChunk(b"", 8, complete=True)


def test_secrets_are_masked_at_any_chunk_boundary(api: Api, engine: TektonEngine) -> None:
    secret = SECRETS["mlflow/tracking/default/AWS_SECRET_ACCESS_KEY"]
    log = f"the key is {secret}.\nand again: {secret}".encode()
    masked = b"the key is <hidden>.\nand again: <hidden>"
    start_logged_run(api, engine, **RUNNING)
    output = b""
    for end in range(len(log) + 1):
        api.pods["p-2", "step-run"] = log[:end]
        chunk = engine.logs(PLAN.id, "upload", len(output))
        output += chunk.data
        assert masked.startswith(output)
        assert CANARY.encode() not in output
    api.objects["taskruns", f"{NAME}-upload"]["status"] = ENDED
    assert output + engine.logs(PLAN.id, "upload", len(output)).data == masked


def test_plain_texts_in_the_secret_are_not_masked(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["texts-like-variables"]()
    pipeline_run = start_run(api, engine, plan)
    task_run(api, pipeline_run, "carried", **ENDED)
    api.pods["p-2", "step-run"] = b"$(params.x) Sat Nov 21\n"
    assert engine.logs(plan.id, "carried").data == b"$(params.x) Sat Nov 21\n"


def test_the_attempts_of_a_step_form_one_log(api: Api, engine: TektonEngine) -> None:
    earlier = [{"podName": "p-1", "conditions": [condition("False", "Failed")]}]
    start_logged_run(api, engine, **ENDED, retriesStatus=earlier)
    api.pods |= {("p-1", "step-run"): b"trying\nno\n", ("p-2", "step-run"): b"trying\nyes\n"}
    assert engine.logs(PLAN.id, "upload").data == b"trying\nno\n=== attempt 2 ===\ntrying\nyes\n"
    del api.pods["p-1", "step-run"]
    assert engine.logs(PLAN.id, "upload").data == b"=== attempt 2 ===\ntrying\nyes\n"


def test_the_log_of_an_image_build_contains_both_containers(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step"]()
    pipeline_run = start_run(api, engine, plan, tekton_plans.secrets_of(plan))
    task_run(api, pipeline_run, "builder", **ENDED)
    api.pods |= {("p-2", "step-prepare"): b"/project/Dockerfile\n", ("p-2", "step-build"): b"STEP 1/2\n"}
    assert engine.logs(plan.id, "builder").data == b"/project/Dockerfile\nSTEP 1/2\n"


def test_the_log_of_a_deleted_pod_raises_not_found(api: Api, engine: TektonEngine) -> None:
    start_logged_run(api, engine, **ENDED)
    with pytest.raises(errors.NotFoundError, match="the log is gone, because the pod p-2 was deleted"):
        engine.logs(PLAN.id, "upload")


def test_a_log_is_not_returned_when_its_secrets_are_unknown(api: Api, engine: TektonEngine) -> None:
    start_logged_run(api, engine, **ENDED)
    api.pods["p-2", "step-run"] = CANARY.encode()
    del api.objects["secrets", NAME]
    with pytest.raises(errors.NotFoundError, match="secrets"):
        engine.logs(PLAN.id, "upload")


def test_logs_of_unknown_runs_and_steps_raise_not_found_and_logs_of_skipped_steps_are_empty(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    pipeline_run = start_run(api, engine, plan)
    with pytest.raises(errors.NotFoundError, match="the cluster has no run 'feed'"):
        engine.logs("feed", "ask")
    with pytest.raises(errors.NotFoundError, match="no step 'other'; its steps are ask, deploy, announce, never"):
        engine.logs(plan.id, "other")
    assert not engine.logs(plan.id, "never").complete
    pipeline_run["status"] = {"conditions": [condition("True", "Completed")]}
    assert engine.logs(plan.id, "never") == LogChunk(b"", 0, complete=True)


def test_a_step_without_a_pod_has_an_empty_log(api: Api, engine: TektonEngine) -> None:
    start_logged_run(api, engine, conditions=[condition("False", "PodCreationFailed", "no such service account")])
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"", 0, complete=True)
