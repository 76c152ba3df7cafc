"""Tekton for tests: takes up the PipelineRuns of a small Kubernetes API, brings every one to its end, and tells of it as it really does.

Its events come late and in any order, some more than once under another id (a controller that starts again sends what it sees once more),
and some never (infra/platform-facts.md 2.4).
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
    """`lost` and `repeated` are shares of the events, `slowness` the most seconds that anything takes."""

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
        self._taken: set[str] = set()
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
                for found in self._api.all("pipelineruns"):
                    if found["metadata"]["uid"] not in self._taken and found["spec"].get("status") != "PipelineRunPending":
                        self._taken.add(found["metadata"]["uid"])
                        self._begin(found)
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()

    def _later(self, job: Callable[[], None]) -> None:
        moment = time.monotonic() + self._chance.uniform(0, self._slowness)
        heapq.heappush(self._due, (moment, next(self._numbers), job))

    def _begin(self, found: dict[str, Any]) -> None:
        found["status"] = {"conditions": [_condition("Unknown", "Started")], "startTime": _now()}
        self._tell("pipelineRun", "started", found)
        self._later(lambda: self._run(found))

    def _run(self, found: dict[str, Any]) -> None:
        with self._api.lock:
            for task in found["spec"]["pipelineSpec"]["tasks"]:
                tekton_runs.task_run(self._api, found, task["name"], conditions=[_condition("Unknown", "Running")], startTime=_now())
            made = self._task_runs(found)
            found["status"]["conditions"] = [_condition("Unknown", "Running")]
            self._tell("pipelineRun", "running", found)
            for task_run in made:
                self._tell("taskRun", "running", task_run)
        self._later(lambda: self._end(found))

    def _end(self, found: dict[str, Any]) -> None:
        with self._api.lock:
            for task_run in self._task_runs(found):
                task_run["status"] |= {"conditions": [_condition("True", "Succeeded")], "completionTime": _now()}
                self._tell("taskRun", "successful", task_run)
            found["status"] |= {"conditions": [_condition("True", "Succeeded")], "completionTime": _now()}
            self._tell("pipelineRun", "successful", found)

    def _task_runs(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        begun = f"{found['metadata']['name']}-"
        return [task_run for task_run in self._api.all("taskruns") if task_run["metadata"]["name"].startswith(begun)]

    def _tell(self, kind: str, word: str, found: dict[str, Any]) -> None:
        if self._chance.random() < self._lost:
            return
        name = found["metadata"]["name"]
        source = f"/apis///namespaces/{kubernetes_api.NAMESPACE}//{name}"
        data = {kind: copy.deepcopy({key: found[key] for key in ("metadata", "spec", "status") if key in found})}
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
    """A file that names the cluster at `url`."""
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
