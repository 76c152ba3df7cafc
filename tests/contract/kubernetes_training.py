"""A Kubernetes API that runs Jobs and TrainJobs: objects are checked by the schemas of both, requests by the rights of the account that
infra/kubernetes/training makes; pods are processes of this machine.

The controllers behave as measured on a cluster with Kubernetes 1.36, Kubeflow Trainer 2.3.0 and JobSet 0.12.0: a TrainJob has no condition
while it runs; a failed one has the reason FailedJobs; where the runtime restarts pods (as by default) the pod of a failed attempt is deleted,
and its log is lost. Images `missing:*` cannot be pulled, and an image with a blank has no valid name.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import re
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract import training_objects, training_processes
from tests.contract.manifests import ROOT, documents

NAMESPACE = "fuseml-training"
TOKEN = "cluster-canary-51c0aa"
RUNTIMES = {"plain": "OnFailure", "keeping": "Never"}
"""The training runtimes -> the restart policy of their pods."""

_PATH = re.compile(r"/(api/v1|apis/[\w.]+/\w+)/namespaces/([\w-]+)/(\w+)(?:/([^/]+)(/log)?)?")
_VERBS = {("GET", True): "get", ("GET", False): "list", ("POST", False): "create", ("DELETE", True): "delete"}
_JOB, _TRAINJOB = "jobs", "trainjobs"
_INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass
class Pod:
    """A pod, and its program once it has started."""

    document: dict[str, Any]
    owner: str
    program: training_processes.Program | None = None


@dataclass
class Cluster:
    """The objects by kind and name. `refuse` is the number of next requests that answer 503, before or after their effect. `answering` is
    called between the effect of a request and its answer."""

    folder: Path
    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"jobs": {}, "trainjobs": {}, "secrets": {}})
    pods: dict[str, Pod] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    refuse: int = 0
    answering: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    _uids: int = 0

    def respond(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        match = _PATH.fullmatch(path)
        if match is None or match[2] != NAMESPACE:
            return 404, b"404 page not found"
        kind, name, log = match[3], match[4], match[5]
        with self.lock:
            right = (_VERBS[method, bool(name)], f"{kind}/log" if log else kind)
            self.used.add(right)
            if right not in granted():
                return refusal(403, "Forbidden", f'User "trainer" cannot {right[0]} resource "{right[1]}" in the namespace "{NAMESPACE}"')
            self.settle()
            if log:
                return self._log(name, query)
            if kind == "pods":
                return 200, {
                    "kind": "PodList",
                    "items": [pod.document for pod in self.pods.values() if _selected(pod, query["labelSelector"])],
                }
            if method == "POST":
                return self._create(kind, body)
            if name not in self.objects[kind]:
                return refusal(404, "NotFound", f'{kind} "{name}" not found')
            if method == "DELETE":
                self._delete(kind, name)
                return 200, {"kind": "Status", "status": "Success"}
            return 200, self.objects[kind][name]

    def _create(self, kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.objects[kind]:
            return refusal(409, "AlreadyExists", f'{kind} "{name}" already exists')
        problems = list(training_objects.faults(kind, body))
        if problems:
            return refusal(422, "Invalid", "; ".join(problems))
        self._uids += 1
        body["metadata"] |= {"uid": f"uid-{self._uids}", "namespace": NAMESPACE}
        self.created.append(json.loads(json.dumps(body)))
        self.objects[kind][name] = body
        if kind == _JOB:
            self._start_pods(name, name, body["spec"]["template"], body["spec"]["completions"], {"batch.kubernetes.io/job-name": name})
        if kind == _TRAINJOB:
            self._start_trainjob(name, body["spec"])
        return 201, body

    def _start_trainjob(self, name: str, spec: dict[str, Any]) -> None:
        if spec["runtimeRef"]["name"] not in RUNTIMES:
            return
        trainer = spec["trainer"]
        container = {"name": "node", "image": trainer.get("image", "runtime:1"), "command": trainer["command"], "env": trainer["env"]}
        labels = {"jobset.sigs.k8s.io/jobset-name": name, "jobset.sigs.k8s.io/replicatedjob-name": "node"}
        self._start_pods(name, f"{name}-node-0", {"spec": {"containers": [container]}}, trainer["numNodes"], labels)

    def _start_pods(self, owner: str, prefix: str, template: dict[str, Any], count: int, labels: dict[str, str]) -> None:
        for index in range(count):
            pod = json.loads(json.dumps({"metadata": {}, **template}))
            pod["metadata"] = {"name": f"{prefix}-{index}-x7k2p", "labels": {**labels, _INDEX: str(index)}}
            pod["status"] = {"phase": "Pending", "conditions": []}
            self.pods[pod["metadata"]["name"]] = Pod(pod, owner)

    def settle(self) -> None:
        """Let kubelet and the controllers do what is due."""
        for pod in list(self.pods.values()):
            self._run(pod)
        for kind in (_JOB, _TRAINJOB):
            for name, found in self.objects[kind].items():
                if not found.get("status", {}).get("conditions"):
                    self._end(kind, name, found)

    def _run(self, pod: Pod) -> None:
        [container] = pod.document["spec"]["containers"]
        if pod.program is None:
            waiting = self._obstacle(container)
            if waiting:
                pod.document["status"]["containerStatuses"] = [{"name": container["name"], "state": {"waiting": waiting}}]
                return
            index = pod.document["metadata"]["labels"][_INDEX]
            variables = {item["name"]: self._value(item) for item in container.get("env", ())}
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            pod.program = training_processes.start(container["command"], {**variables, "JOB_COMPLETION_INDEX": index}, folder)
        code = pod.program.code
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        pod.document["status"] = {"phase": phase, "containerStatuses": [{"name": container["name"], "state": state}]}

    def _obstacle(self, container: dict[str, Any]) -> dict[str, str] | None:
        if " " in container["image"]:
            return {"reason": "InvalidImageName", "message": f'Failed to apply default image tag "{container["image"]}"'}
        if container["image"].startswith("missing:"):
            return {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
        for item in container.get("env", ()):
            reference = item.get("valueFrom", {}).get("secretKeyRef")
            if reference and reference["name"] not in self.objects["secrets"]:
                return {"reason": "CreateContainerConfigError", "message": f'secret "{reference["name"]}" not found'}
        return None

    def _value(self, item: dict[str, Any]) -> str:
        reference = item.get("valueFrom", {}).get("secretKeyRef")
        if not reference:
            return str(item["value"])
        return base64.b64decode(self.objects["secrets"][reference["name"]]["data"][reference["key"]]).decode()

    def _end(self, kind: str, name: str, found: dict[str, Any]) -> None:
        own = [pod for pod in self.pods.values() if pod.owner == name]
        codes = [pod.program.code if pod.program else None for pod in own]
        if any(codes):
            for pod in own:
                if pod.program and pod.program.code is None:
                    pod.program.stop()
            if kind == _JOB:
                condition = {"type": "Failed", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
            else:
                message = f"jobset failed due to one or more job failures (first failed job: {name}-node-0)"
                condition = {"type": "Failed", "reason": "FailedJobs", "message": message}
                if RUNTIMES[found["spec"]["runtimeRef"]["name"]] == "OnFailure":
                    for pod in own:
                        del self.pods[pod.document["metadata"]["name"]]
        elif own and all(code == 0 for code in codes):
            reason = "CompletionsReached" if kind == _JOB else "AllJobsCompleted"
            condition = {"type": "Complete", "reason": reason, "message": ""}
        else:
            return
        found["status"] = {"conditions": [{**condition, "status": "True", "lastTransitionTime": "2026-11-30T09:00:00Z"}]}

    def _delete(self, kind: str, name: str) -> None:
        uid = self.objects[kind].pop(name)["metadata"]["uid"]
        for pod in [pod for pod in self.pods.values() if pod.owner == name]:
            del self.pods[pod.document["metadata"]["name"]]
            if pod.program:
                threading.Thread(target=pod.program.stop).start()
        for secret, document in list(self.objects["secrets"].items()):
            if [owner["uid"] for owner in document["metadata"]["ownerReferences"]] == [uid]:
                del self.objects["secrets"][secret]

    def _log(self, name: str, query: dict[str, str]) -> tuple[int, Any]:
        if name not in self.pods:
            return refusal(404, "NotFound", f'pods "{name}" not found')
        program = self.pods[name].program
        if program is None:
            return refusal(400, "BadRequest", f'container "{query["container"]}" in pod "{name}" is waiting to start')
        since = query.get("sinceTime", "")
        assert "." not in since, "the API compares full seconds"
        return 200, b"".join(f"{stamp} ".encode() + line for stamp, line in program.lines if stamp[:19] >= since[:19])

    def stop(self) -> None:
        """End all programs."""
        for pod in self.pods.values():
            if pod.program:
                pod.program.stop()


@functools.cache
def granted() -> set[tuple[str, str]]:
    """The rights of the account in infra/kubernetes/training: verb and resource."""
    accounts = documents(ROOT / "infra/kubernetes/training/training.yaml")
    rules = [rule for document in accounts if document["kind"] == "Role" for rule in document["rules"]]
    return {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def refusal(status: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}


def _selected(pod: Pod, selector: str) -> bool:
    labels = pod.document["metadata"]["labels"]
    return all(labels.get(name) == value for name, value in (part.split("=") for part in selector.split(",")))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Cluster]]:
    """The address of the API, and its cluster."""
    cluster = Cluster(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _handle(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(*refusal(401, "Unauthorized", "Unauthorized"))
                return
            with cluster.lock:
                refused = cluster.refuse > 0
                cluster.refuse -= refused
            # Every second refusal has had its effect.
            effect = (
                None
                if refused and cluster.refuse % 2
                else cluster.respond(self.command, parts.path, dict(urllib.parse.parse_qsl(parts.query)), body)
            )
            cluster.answering()
            self._answer(*(refusal(503, "ServiceUnavailable", "try again") if refused or effect is None else effect))

        def _answer(self, status: int, answer: Any) -> None:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            # A step that was killed does not wait for its answer.
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _handle

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", cluster
        finally:
            server.shutdown()
            thread.join()
            cluster.stop()
