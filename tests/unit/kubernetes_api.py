"""Fake Kubernetes API over real HTTP: objects in memory, with the rules that the Tekton engine and the serving rely on.

Operations: create (409 for an existing name), get, list by label, merge patch (409 for an outdated `resourceVersion`), server-side apply
(422 for an object that `validate` finds faults in), delete, logs of pods. Owned objects are deleted with their last owner, as by the garbage collector. `faults` break requests, before or
after their effect.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "fuseml-workloads"
GROUPS = (
    "tekton.dev/v1",
    "serving.knative.dev/v1",
    "serving.kserve.io/v1beta1",
    "machinelearning.seldon.io/v1",
    "mlops.seldon.io/v1alpha1",
    "apps/v1",
)
_PATH = re.compile(rf"/(?:api/v1|apis/(?:{'|'.join(map(re.escape, GROUPS))}))/namespaces/fuseml-workloads/(\w+)(?:/([^/]+)(?:/(log))?)?")


@dataclass(frozen=True)
class Fault:
    """A fault of one request: a closed connection (no `status`) or an error response. With `after`, the request has had its effect."""

    status: int | None = None
    body: str = ""
    after: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Api:
    """`faults` is called with the number (from 0), method and path of each request. `changed` is called after every creation, `deleted` with
    kind and name after every deletion. `absent` are kinds that the cluster does not know."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    pods: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    faults: Callable[[int, str, str], Fault | None] = lambda number, method, path: None
    changed: Callable[[Api, dict[str, Any]], None] = lambda api, created: None
    deleted: Callable[[str, str], None] = lambda kind, name: None
    validate: Callable[[str, dict[str, Any]], list[str]] = lambda kind, body: []
    absent: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _versions: int = 0

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind (`pipelineruns`, `secrets`, ...)."""
        return [resource for (plural, _), resource in self.objects.items() if plural == kind]

    def put(self, kind: str, resource: dict[str, Any]) -> dict[str, Any]:
        """Store an object as a controller does."""
        with self.lock:
            self._versions += 1
            resource["metadata"].setdefault("uid", f"uid-{self._versions}")
            resource["metadata"].setdefault("creationTimestamp", "2026-11-20T10:00:00Z")
            resource["metadata"]["namespace"] = NAMESPACE
            resource["metadata"]["resourceVersion"] = str(self._versions)
            self.objects[kind, resource["metadata"]["name"]] = resource
            return resource

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and the objects that only it owns."""
        with self.lock:
            uid = self.objects.pop((kind, name))["metadata"]["uid"]
            self.deleted(kind, name)
            for (plural, owned), resource in list(self.objects.items()):
                if [owner["uid"] for owner in resource["metadata"].get("ownerReferences", [])] == [uid]:
                    del self.objects[plural, owned]
                    self.deleted(plural, owned)

    def respond(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and body (bytes for a log)."""
        match = _PATH.fullmatch(path)
        if match is None:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        kind, name, log = match.groups()
        if kind in self.absent:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        with self.lock:
            if log:
                return self._log(name, query["container"], query.get("tailLines"))
            if method == "POST":
                return self._create(kind, body)
            if name is None:
                return 200, {"items": [resource for resource in self.all(kind) if _matches(resource, query.get("labelSelector", ""))]}
            if method == "PATCH" and "fieldManager" in query:
                return self._apply(kind, name, body)
            if (kind, name) not in self.objects:
                return refusal(404, "NotFound", f'{kind} "{name}" not resource')
            if method == "DELETE":
                self.delete(kind, name)
                return 200, {"kind": "Status", "status": "Success"}
            return (200, self.objects[kind, name]) if method == "GET" else self._patch(kind, name, body)

    def _create(self, kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if (kind, name) in self.objects:
            return refusal(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if "stringData" in body:
            data = {key: base64.b64encode(text.encode()).decode() for key, text in body.pop("stringData").items()}
            body["data"] = body.get("data", {}) | data
        created = copy.deepcopy(self.put(kind, body))
        self.changed(self, self.objects[kind, name])
        return 201, created

    def _apply(self, kind: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The applier owns the whole object; an unchanged apply keeps the generation."""
        faults = self.validate(kind, body)
        if faults:
            return refusal(422, "Invalid", f'{kind} "{name}" is invalid: {faults[0]}')
        if (kind, name) not in self.objects:
            body["metadata"]["generation"] = 1
            return self._create(kind, body)
        resource = self.objects[kind, name]
        changed = resource.get("spec") != body.get("spec")
        for key in ("annotations", "labels"):
            resource["metadata"].pop(key, None)
        replaced = {key: value for key, value in body.items() if key in ("spec", "data")}
        _merge(resource, {key: value for key, value in body.items() if key not in replaced})
        resource |= replaced
        resource["metadata"]["generation"] = resource["metadata"].get("generation", 1) + changed
        self.put(kind, resource)
        self.changed(self, resource)
        return 200, copy.deepcopy(resource)

    def _patch(self, kind: str, name: str, patch: dict[str, Any]) -> tuple[int, Any]:
        resource = self.objects[kind, name]
        expected = patch.get("metadata", {}).pop("resourceVersion", None)
        if expected not in (None, resource["metadata"]["resourceVersion"]):
            return refusal(409, "Conflict", f'Operation cannot be fulfilled on {kind} "{name}": the object has been modified')
        if _succeeded(resource) in ("True", "False") and "spec" in patch:
            return refusal(400, "BadRequest", "validation failed: Once the PipelineRun is complete, no updates are allowed")
        _merge(resource, patch)
        return 200, copy.deepcopy(self.put(kind, resource))

    def _log(self, pod: str, container: str, lines: str | None) -> tuple[int, Any]:
        if not any(name == pod for name, _ in self.pods):
            return refusal(404, "NotFound", f'pods "{pod}" not resource')
        output = self.pods.get((pod, container))
        if output is None:
            return refusal(400, "BadRequest", f'container "{container}" in pod "{pod}" is waiting to start: PodInitializing')
        return 200, output if lines is None else b"".join(output.splitlines(keepends=True)[-int(lines) :])


def refusal(status: int, reason: str, message: str) -> tuple[int, dict[str, object]]:
    """Status and body of a failed request."""
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status}


def _matches(resource: dict[str, Any], selector: str) -> bool:
    terms = dict(term.split("=", 1) for term in selector.split(",") if term)
    return bool(terms.items() <= resource["metadata"].get("labels", {}).items())


def _succeeded(resource: dict[str, Any]) -> str:
    return next((condition["status"] for condition in resource.get("status", {}).get("conditions", [])), "Unknown")


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@contextlib.contextmanager
def serving(api: Api) -> Iterator[str]:
    """The address of a server for `api`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write per response: two writes would cost 40 ms each (Nagle's algorithm with delayed acknowledgements)

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            url = urllib.parse.urlsplit(self.path)
            with api.lock:
                fault = api.faults(len(api.requests), self.command, url.path)
                api.requests.append((self.command, url.path, copy.deepcopy(body)))
                if fault is None or fault.after:
                    status, document = api.respond(self.command, url.path, dict(urllib.parse.parse_qsl(url.query)), body)
                    # Encoded under the lock: a fake controller may change the document afterwards.
                    encoded = document if isinstance(document, bytes) else json.dumps(document).encode()
            if fault is not None and fault.status is None:
                self.close_connection = True
                return
            data = fault.body.encode() if fault is not None else encoded
            self.send_response(fault.status if fault is not None and fault.status is not None else status)
            for name, value in fault.headers if fault is not None else ():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *args: object) -> None:
            """Log nothing: tests use `requests`."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
