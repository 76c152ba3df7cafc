"""Runs on a fake Kubernetes API: the engine that submits them, and the status that Tekton would write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from fuseml.domain import plans
from fuseml.engines.tekton import Cluster, TektonEngine
from tests.unit import kubernetes_api, tekton_plans
from tests.unit.kubernetes_api import Api

PLAN = tekton_plans.PLANS["secrets-in-text"]()
SECRETS = tekton_plans.secrets_of(PLAN)
NAME = "example-0123456789abcdef"


@contextlib.contextmanager
def engine_on(api: Api) -> Iterator[TektonEngine]:
    """An engine on the cluster `api`."""
    with kubernetes_api.serving(api) as url:
        cluster = Cluster(kubernetes_api.NAMESPACE, host=url)
        yield TektonEngine(cluster)
        cluster.close()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def engine(api: Api) -> Iterator[TektonEngine]:
    with engine_on(api) as opened:
        yield opened


def start_run(api: Api, engine: TektonEngine, plan: plans.Plan, secrets: dict[str, str] | None = None) -> dict[str, Any]:
    """Submit a plan; returns its PipelineRun with Tekton's first condition."""
    engine.submit(plan, secrets or {})
    [pipeline_run] = api.all("pipelineruns")
    pipeline_run["status"] = {"conditions": [condition("Unknown", "Running")], "startTime": "2026-11-20T10:00:00Z"}
    return pipeline_run


def condition(status: str, reason: str, message: str = "") -> dict[str, str]:
    """The condition `Succeeded`, in which Tekton reports the state."""
    return {"type": "Succeeded", "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-20T10:02:00Z"}


def task_run(api: Api, pipeline_run: dict[str, Any], task: str, **status: Any) -> None:
    """Store the TaskRun of a task as Tekton creates it, with the labels and annotations of its PipelineRun."""
    name = f"{pipeline_run['metadata']['name']}-{task}"
    labels = {**pipeline_run["metadata"]["labels"], "tekton.dev/pipelineTask": task, "tekton.dev/memberOf": "tasks"}
    metadata = {"name": name, "labels": labels, "annotations": dict(pipeline_run["metadata"].get("annotations", {}))}
    api.put("taskruns", {"metadata": metadata, "status": status})
