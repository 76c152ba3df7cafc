"""Pods of model servers of other tools, in small: a bucket with models, pods that fetch and load them, and a router to them.

A pod is no process here: the tools bring model servers of their own. It takes some ticks of the controller to fetch its model, and some to load
it; the container that fails is reported as Kubernetes does it. The output is that of KServe's storage initializer and of MLServer, which ends with
code 0 and is started again, and whose container counts as ready in the mode Knative of KServe. One that ends without a pause before its end refuses requests for a moment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import yaml
from werkzeug import Request, Response

from tests import crds
from tests.component import gitea
from tests.contract.test_tekton_manifests import closed
from tests.unit import kubernetes_api
from tests.unit.kubernetes_api import Api

Object = dict[str, Any]

KEY_ID, SECRET, TOKEN = "models", "s3-secret", "s3-token"
ANSWERS: Mapping[str, float | None] = {"s3://models/first": 1.0, "s3://models/second": 2.0, "s3://models/broken": None}
"""The models in the bucket, and what they predict; None for one that cannot be loaded."""
FETCHED, LOADED = 2, 4  # ticks
_TICK = 0.01


@dataclass
class Pod:
    """A pod with the model at `uri`, which it fetches with the variables `account`. `graceful`: it answers while it ends."""

    name: str
    labels: dict[str, str]
    uri: str
    account: Mapping[str, str]
    container: str
    graceful: bool = True
    age: int = 0

    @property
    def fetch_failure(self) -> str:
        """The output of the init container that cannot fetch the model."""
        if self.account.get("AWS_ACCESS_KEY_ID") != KEY_ID or self.account.get("AWS_SECRET_ACCESS_KEY") != SECRET:
            return f"{_STAMP}Failed to fetch model. Access Denied.\n"
        return "" if self.uri in ANSWERS else f"{_STAMP}Failed to fetch model. No model found in {self.uri.removeprefix('s3://')}.\n"

    @property
    def load_failure(self) -> str:
        """The output of the server that cannot load the model."""
        return _OUTPUT.format(uri=self.uri) if ANSWERS.get(self.uri) is None else ""

    @property
    def failure(self) -> str:
        """The output of the container that has failed by now; empty while none has."""
        if self.age >= FETCHED and self.fetch_failure:
            return self.fetch_failure
        return self.load_failure if self.age >= LOADED else ""

    @property
    def is_ready(self) -> bool:
        """Whether it answers requests."""
        return self.age >= LOADED and not self.failure

    def as_object(self) -> Object:
        """The pod as the API shows it; the log has the output of its containers."""
        fetched = self.age >= FETCHED and not self.fetch_failure
        init: Object = {"name": "initializer", "ready": fetched, "state": {"running": {}}}
        if self.age >= FETCHED:
            init["state"] = _BACK_OFF if self.fetch_failure else {"terminated": {"exitCode": 0, "reason": "Completed"}}
            init |= {"lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}} if self.fetch_failure else {}
        server: Object = {"name": self.container, "ready": fetched, "state": {"waiting": {"reason": "PodInitializing"}}}
        if fetched:
            server["state"] = {"running": {}}
            server |= {"lastState": {"terminated": {"exitCode": 0, "reason": "Completed"}}} if self.failure else {}
        return {
            "metadata": {"name": self.name, "labels": self.labels},
            "status": {
                "conditions": [{"type": "Ready", "status": "True" if self.is_ready else "False"}],
                "initContainerStatuses": [init],
                "containerStatuses": [server],
            },
        }


_BACK_OFF: Object = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
_STAMP = "2026-12-01 18:54:44.451 1 storage.initializer ERROR [entrypoint:<module>():28] "
_OUTPUT = """\
2026-12-01 19:03:30,828 [mlserver.parallel] ERROR - An error occurred processing a model update of type 'Load'.
Traceback (most recent call last):
  File "mlserver/parallel/worker.py", line 158, in _process_model_update
    await self._model_registry.load(model_settings)
ModuleNotFoundError: cannot load {uri}: no module named torch
2026-12-01 19:03:30,835 [mlserver] ERROR - Some of the models failed to load during startup!
Traceback (most recent call last):
  File "mlserver/parallel/dispatcher.py", line 87, in _wait
    response_message = await future
                       ^^^^^^^^^^^^
mlserver.parallel.errors.WorkerError: builtins.ModuleNotFoundError: cannot load {uri}: no module named torch
2026-12-01 19:03:30,836 [mlserver.parallel] INFO - Waiting for shutdown of default inference pool...
INFO:     127.0.0.1:53470 - "GET /v2/models/wine/ready HTTP/1.1" 404 Not Found
2026-12-01 19:03:31,838 [mlserver.parallel] INFO - Shutdown of default inference pool complete
"""


class Controller:
    """A tool's controller over `api`: `tick` is called again and again, with the lock of the API. `url` is the address of the router, which
    asks `chosen` for the pod that answers a request to a name."""

    kinds: tuple[tuple[str, str], ...]
    """(Kind in plural, its definition) of the objects that the tool defines."""

    def __init__(self, api: Api) -> None:
        self.api, self.url = api, ""
        self.refused = 0
        self.paused = threading.Event()
        """While it is set, the controller sees nothing."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._problems: list[BaseException] = []
        api.validate = self._faults

    def tick(self) -> None:
        """Take the next step."""
        raise NotImplementedError

    def chosen(self, name: str) -> Pod | None:
        """The pod for a request to `name`; None where there is none."""
        raise NotImplementedError

    def target(self, path: str) -> str:
        """The name that a request to the path is for; empty for no route."""
        name, _, rest = path.removeprefix("/").partition("/")
        return name if rest == f"v2/models/{name}/infer" else ""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ticks and routes, until the end of the block."""
        with gitea.listening(self._respond) as router:
            self.url = f"http://127.0.0.1:{router.port}"
            self._thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                self._thread.join()
        assert self._problems == []

    def ended(self, pods: Iterable[Pod]) -> None:
        """Report pods that end: requests to those without a pause are refused for a moment."""
        self.refused += sum(3 for pod in pods if pod.is_ready and not pod.graceful)

    def show(self, pods: Iterable[Pod]) -> None:
        """Show the pods in the API, and only them."""
        for name in [name for kind, name in self.api.objects if kind == "pods"]:
            del self.api.objects["pods", name]
        self.api.pods.clear()
        for pod in pods:
            self.api.put("pods", pod.as_object())
            self.api.pods[pod.name, "initializer"] = pod.fetch_failure.encode()
            self.api.pods[pod.name, pod.container] = pod.load_failure.encode()

    def environment(self, secret: str) -> dict[str, str]:
        """The variables in a Secret."""
        import base64

        data = self.api.objects.get(("secrets", secret), {}).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _run(self) -> None:
        while not self._stopping.wait(_TICK):
            try:
                with self.api.lock:
                    if not self.paused.is_set():
                        self.tick()
            except Exception as error:  # reported at the end of the block
                self._problems.append(error)
                return

    def _respond(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        name = self.target(Request(environ).path)
        with self.api.lock:
            pod = self.chosen(name)
            refused, self.refused = self.refused, max(self.refused - 1, 0)
        if refused:
            return Response("connection refused", 502)(environ, start_response)
        if pod is None:
            return Response("no such route", 404)(environ, start_response)
        answer = json.dumps({"outputs": [{"name": "output-0", "datatype": "FP64", "shape": [1, 1], "data": [ANSWERS[pod.uri]]}]})
        return Response(answer, 200, content_type="application/json")(environ, start_response)

    def _faults(self, kind: str, body: Object) -> list[str]:
        path = dict(self.kinds).get(kind)
        if path is None or not (crds.FOLDER / path).exists():
            return []
        return [f"{error.json_path}: {error.message}" for error in validator(path, body["apiVersion"]).iter_errors(body)]


@functools.cache
def validator(path: str, api_version: str) -> jsonschema.Draft7Validator:
    """The validator of a kind by its published definition, without unknown fields."""
    definition = yaml.load((crds.FOLDER / path).read_text(), Loader=yaml.CSafeLoader)
    name = api_version.rpartition("/")[2]
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == name]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"const": api_version}, "kind": {"const": definition["spec"]["names"]["kind"]}}
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft7Validator(schema)


@contextlib.contextmanager
def running(make: Callable[[Api], Controller]) -> Iterator[tuple[Controller, str]]:
    """The controller over an API of its own, and the address of the API."""
    api = Api()
    controller = make(api)
    with controller.running(), kubernetes_api.serving(api) as url:
        yield controller, url


@dataclass
class Rollout:
    """A Deployment: it starts a pod of a new template beside the former ones, which end when the new one is ready."""

    name: str
    pods: list[Pod] = field(default_factory=list)
    template: Object = field(default_factory=dict)
    made: int = 0

    def follow(self, template: Object, make: Callable[[str], Pod]) -> list[Pod]:
        """Take the next step towards the template, whose labels are those of the pods. The pods that end."""
        if template != self.template:
            self.template, self.made = template, self.made + 1
            failed = [pod for pod in self.pods if not pod.is_ready]
            self.pods = [pod for pod in self.pods if pod not in failed]
            self.pods.append(make(f"{self.name}-{self.made}"))
        for pod in self.pods:
            pod.age += 1
        newest = self.pods[-1]
        ending = self.pods[:-1] if newest.is_ready else []
        self.pods = [pod for pod in self.pods if pod not in ending]
        return ending

    def as_object(self, labels: dict[str, str]) -> Object:
        """The Deployment as the API shows it."""
        newest = self.pods[-1]
        return {
            "metadata": {"name": self.name, "labels": labels, "generation": self.made},
            "spec": {"replicas": 1, "template": {"metadata": {"labels": newest.labels}}},
            "status": {
                "observedGeneration": self.made,
                "replicas": len(self.pods),
                "updatedReplicas": 1,
                "availableReplicas": sum(pod.is_ready for pod in self.pods),
            },
        }
