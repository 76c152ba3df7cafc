"""Fake of Tekton: it runs the PipelineRuns of a fake Kubernetes API to their ends and sends events as Tekton does.

Events are late and out of order. Some are sent again with another id (as after a restart of the controller), some are lost
(infra/platform-facts.md 2.4).
"""

from __future__ import annotations

import copy
import heapq
import itertools
import pathlib
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import yaml

from fuseml.domain import errors, events
from fuseml.runtime import clock
from tests.unit import kubernetes_api, tekton_runs

_POLL_SECONDS = 0.05


class Controller:
    """`lost` and `repeated` are fractions of the events; `slowness` is the maximum delay of an action in seconds."""

    def __init__(
        self,
        api: kubernetes_api.Api,
        publish: Callable[[events.Event], None],
        *,
        chance: random.Random,
        lost: float = 0.0,
        repeated: float = 0.0,
        slowness: float = 0.5,
    ) -> None:
        self._api, self._publish, self._chance = api, publish, chance
        self._lost, self._repeated, self._slowness = lost, repeated, slowness
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._started: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tekton")

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            with self._api.lock:
                for pipeline_run in self._api.all("pipelineruns"):
                    if pipeline_run["metadata"]["uid"] not in self._started and pipeline_run["spec"].get("status") != "PipelineRunPending":
                        self._started.add(pipeline_run["metadata"]["uid"])
                        self._start(pipeline_run)
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()

    def _later(self, job: Callable[[], None]) -> None:
        moment = time.monotonic() + self._chance.uniform(0, self._slowness)
        heapq.heappush(self._due, (moment, next(self._numbers), job))

    def _start(self, pipeline_run: dict[str, Any]) -> None:
        pipeline_run["status"] = {"conditions": [_condition("Unknown", "Started")], "startTime": _now()}
        self._report("pipelineRun", "started", pipeline_run)
        self._later(lambda: self._run(pipeline_run))

    def _run(self, pipeline_run: dict[str, Any]) -> None:
        with self._api.lock:
            for task in pipeline_run["spec"]["pipelineSpec"]["tasks"]:
                tekton_runs.task_run(self._api, pipeline_run, task["name"], conditions=[_condition("Unknown", "Running")], startTime=_now())
            task_runs = self._task_runs(pipeline_run)
            pipeline_run["status"]["conditions"] = [_condition("Unknown", "Running")]
            self._report("pipelineRun", "running", pipeline_run)
            for task_run in task_runs:
                self._report("taskRun", "running", task_run)
        self._later(lambda: self._end(pipeline_run))

    def _end(self, pipeline_run: dict[str, Any]) -> None:
        with self._api.lock:
            for task_run in self._task_runs(pipeline_run):
                task_run["status"] |= {"conditions": [_condition("True", "Succeeded")], "completionTime": _now()}
                self._report("taskRun", "successful", task_run)
            pipeline_run["status"] |= {"conditions": [_condition("True", "Succeeded")], "completionTime": _now()}
            self._report("pipelineRun", "successful", pipeline_run)

    def _task_runs(self, pipeline_run: dict[str, Any]) -> list[dict[str, Any]]:
        prefix = f"{pipeline_run['metadata']['name']}-"
        return [task_run for task_run in self._api.all("taskruns") if task_run["metadata"]["name"].startswith(prefix)]

    def _report(self, kind: str, word: str, resource: dict[str, Any]) -> None:
        if self._chance.random() < self._lost:
            return
        name = resource["metadata"]["name"]
        source = f"/apis///namespaces/{kubernetes_api.NAMESPACE}//{name}"
        data = {kind: copy.deepcopy({key: resource[key] for key in ("metadata", "spec", "status") if key in resource})}
        for _ in range(2 if self._chance.random() < self._repeated else 1):
            event = events.Event(f"{events.TEKTON_PREFIX}{kind.lower()}.{word}.v1", source, str(uuid.uuid4()), name, clock.now(), data)
            self._later(lambda event=event: self._send(event))  # type: ignore[misc]

    def _send(self, event: events.Event) -> None:
        try:
            self._publish(event)
        except errors.TemporaryError:
            self._later(lambda: self._send(event))


def _now() -> str:
    return clock.now()[:19] + "Z"


def _condition(status: str, reason: str) -> dict[str, str]:
    return {**tekton_runs.condition(status, reason), "lastTransitionTime": _now()}


def kubeconfig(folder: pathlib.Path, url: str) -> pathlib.Path:
    """A kubeconfig file for the cluster at `url`."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "here", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
