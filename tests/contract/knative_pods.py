"""Knative Serving in small: the objects are in the Kubernetes API stand-in, every revision is a process, and a router splits the requests.

It keeps the rules that a serving relies on. A new template makes a Revision; its process is the container's own command with its arguments,
its variables and the keys of its Secret. The route follows `spec.traffic` only when each of its targets is ready, and keeps its former
targets until then. A container that ends is reported with the last lines of its log. Revisions and their processes end with their Service.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from werkzeug import Request, Response

from fuseml.embedded import child_process
from tests.component import gitea
from tests.unit import kubernetes_api
from tests.unit.kubernetes_api import Api

_READINESS = "/v2/health/ready"


@dataclass
class _Pod:
    """The process of one Revision. `port` is None until it is ready; `failure` holds the last lines of one that ended."""

    process: child_process.SupervisedProcess
    log: Path
    port: int | None = None
    failure: str = ""


class Knative:
    """The controller and the router over `api`. `url` is the router's address: a Service is reached at `url`/NAME."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.url = ""
        self._api, self._folder = api, folder
        self._pods: dict[str, _Pod] = {}
        self._threads: list[threading.Thread] = []
        self._pool = urllib3.PoolManager(maxsize=8, retries=False)
        api.changed, api.deleted = self._changed, self._deleted

    def stop(self) -> None:
        """End the processes and wait for them."""
        for pod in self._pods.values():
            self._run(pod.process.stop)
        for thread in self._threads:
            thread.join()
        self._pool.clear()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Route one request to a revision by its share."""
        request = Request(environ)
        name, _, path = request.path.removeprefix("/").partition("/")
        with self._api.lock:
            service = self._api.objects.get(("services", name), {})
            shares = {target["revisionName"]: target["percent"] for target in service.get("status", {}).get("traffic", [])}
        if not shares:
            return Response("no such route", 404)(environ, start_response)
        (revision,) = random.choices(list(shares), list(shares.values()))
        answer = self._pool.request(
            request.method,
            f"http://127.0.0.1:{self._pods[revision].port}/{path}",
            body=request.get_data(),
            headers={"Content-Type": request.content_type or ""},
        )
        return Response(answer.data, answer.status, content_type=answer.headers["Content-Type"])(environ, start_response)

    def _changed(self, api: Api, body: dict[str, Any]) -> None:
        if body["kind"] != "Service":
            return
        template = body["spec"]["template"]
        revision = template["metadata"]["name"]
        if ("revisions", revision) not in api.objects:
            owner = {"uid": body["metadata"]["uid"]}
            api.put("revisions", {"metadata": {"name": revision, "labels": template["metadata"]["labels"], "ownerReferences": [owner]}})
            self._pods[revision] = pod = self._started(revision, template["spec"]["containers"][0])
            self._run(self._watch, revision, pod)
        self._reconcile(body)

    def _deleted(self, kind: str, name: str) -> None:
        if kind == "revisions":
            self._run(self._pods.pop(name).process.stop)

    def _run(self, call: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _started(self, revision: str, container: dict[str, Any]) -> _Pod:
        environment = {"PATH": os.environ["PATH"], **{entry["name"]: self._value(entry) for entry in container["env"]}}
        # The image's own Python and a free port instead of the pod's; a later option overrides an earlier one.
        argv = [sys.executable, *container["command"][1:], *container["args"], "--host", "127.0.0.1", "--port", "0"]
        assert container["readinessProbe"]["httpGet"]["path"] == _READINESS
        log = self._folder / f"{revision}.log"
        return _Pod(child_process.SupervisedProcess(argv, env=environment, cwd=self._folder, log=log, pipe=True), log)

    def _value(self, entry: dict[str, Any]) -> str:
        if "value" in entry:
            return str(entry["value"])
        reference = entry["valueFrom"]["secretKeyRef"]
        return base64.b64decode(self._api.objects["secrets", reference["name"]]["data"][reference["key"]]).decode()

    def _watch(self, revision: str, pod: _Pod) -> None:
        line = pod.process.stdout.readline()
        with self._api.lock:
            if line:
                port = json.loads(line)["port"]
                assert self._pool.request("GET", f"http://127.0.0.1:{port}{_READINESS}").status == 200
                pod.port = port
            else:
                pod.failure = child_process.tail(pod.log)
            for service in self._api.all("services"):
                if service["spec"]["template"]["metadata"]["name"] == revision:
                    self._reconcile(service)

    def _reconcile(self, service: dict[str, Any]) -> None:
        """Set the status of a Service, as its controller does it."""
        name, revision = service["metadata"]["name"], service["spec"]["template"]["metadata"]["name"]
        newest, traffic = self._pods[revision], service["spec"]["traffic"]
        routed = all(self._pods[target["revisionName"]].port is not None for target in traffic)
        message = f'Revision "{revision}" failed with message: Container failed with: {newest.failure}.' if newest.failure else ""
        service["status"] = {
            "observedGeneration": service["metadata"]["generation"],
            "url": f"{self.url}/{name}",
            "traffic": traffic if routed else service.get("status", {}).get("traffic", []),
            "conditions": [
                {
                    "type": "ConfigurationsReady",
                    "status": "False" if newest.failure else "True" if newest.port is not None else "Unknown",
                    "message": message,
                },
                {"type": "RoutesReady", "status": "True" if routed else "Unknown", "reason": "" if routed else "RevisionMissing"},
            ],
        }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Api, str]]:
    """The API and its address. Every process ends with the block."""
    api = Api()
    knative = Knative(api, folder)
    with gitea.listening(knative) as router, kubernetes_api.serving(api) as url:
        knative.url = f"http://127.0.0.1:{router.port}"
        try:
            yield api, url
        finally:
            knative.stop()
