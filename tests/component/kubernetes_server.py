"""A Kubernetes API that the real `kubectl` and `helm` talk to: discovery, objects in memory, server-side apply, selectors, rights.

Controllers are functions of the test: `settled` changes each object as its controller would, such as the status of a pod.
"""

from __future__ import annotations

import contextlib
import copy
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.component import kubernetes_protobuf

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace, name."""

CRDS = "apiextensions.k8s.io/v1"
RESOURCES: dict[str, tuple[str, str, bool]] = {
    "namespaces": ("v1", "Namespace", False),
    "configmaps": ("v1", "ConfigMap", True),
    "secrets": ("v1", "Secret", True),
    "services": ("v1", "Service", True),
    "pods": ("v1", "Pod", True),
    "deployments": ("apps/v1", "Deployment", True),
    "replicasets": ("apps/v1", "ReplicaSet", True),
    "statefulsets": ("apps/v1", "StatefulSet", True),
    "ingresses": ("networking.k8s.io/v1", "Ingress", True),
    "roles": ("rbac.authorization.k8s.io/v1", "Role", True),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding", True),
    "clusterroles": ("rbac.authorization.k8s.io/v1", "ClusterRole", False),
    "customresourcedefinitions": (CRDS, "CustomResourceDefinition", False),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass", False),
    "brokers": ("eventing.knative.dev/v1", "Broker", True),
    "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview", False),
    "gateways": ("networking.istio.io/v1", "Gateway", True),
    "virtualservices": ("networking.istio.io/v1", "VirtualService", True),
}
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?"
)


@dataclass
class Cluster:
    """`forbidden` holds plurals that the account may not list, `foreign` objects whose fields have another owner, and `conflict` is more text
    of its refusal. `requests` are the methods and paths so far.
    """

    objects: dict[Key, Object] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    foreign: set[Key] = field(default_factory=set)
    conflict: str = ""
    settled: Callable[[Object], None] = lambda item: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _versions: int = 0

    def names(self, plural: str, namespace: str = "") -> list[str]:
        with self.lock:
            return sorted(name for kind, place, name in self.objects if kind == plural and namespace in ("", place))

    def get(self, plural: str, name: str, namespace: str = "") -> Object:
        with self.lock:
            return copy.deepcopy(self.objects[plural, namespace, name])

    def put(self, item: Object) -> Object:
        """Store an object as its kind, with its metadata completed and its controller's work done."""
        plural = next(plural for plural, (version, kind, _) in RESOURCES.items() if (version, kind) == (item["apiVersion"], item["kind"]))
        with self.lock:
            self._versions += 1
            metadata = item["metadata"]
            namespace = metadata.setdefault("namespace", "default") if RESOURCES[plural][2] else ""
            metadata.setdefault("uid", f"uid-{self._versions}")
            metadata.setdefault("creationTimestamp", "2026-11-20T10:00:00Z")
            metadata["resourceVersion"] = str(self._versions)
            metadata.setdefault("generation", 1)
            if plural == "secrets" and "stringData" in item:
                import base64

                item["data"] = item.get("data", {}) | {
                    key: base64.b64encode(text.encode()).decode() for key, text in item.pop("stringData").items()
                }
            self.settled(item)
            self.objects[plural, namespace, metadata["name"]] = item
            return item

    def define(self, *definitions: str, **labels: str) -> None:
        for name in definitions:
            self.put({"apiVersion": CRDS, "kind": "CustomResourceDefinition", "metadata": {"name": name, "labels": labels}, "spec": {}})

    def respond(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        found = _discovery(path)
        if found is not None:
            return 200, found
        match = _PATH.fullmatch(path)
        plural = match["kind"] if match else ""
        if match is None or plural not in RESOURCES or RESOURCES[plural][0] != (match["core"] or match["group"]):
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        namespace, name = match["namespace"] or "", match["name"]
        if plural == "namespaces" and name is None and namespace:
            name, namespace = namespace, ""
        with self.lock:
            if plural in self.forbidden and method == "GET":
                group = RESOURCES[plural][0].rpartition("/")[0]
                scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
                verb = "get" if name else "list"
                return _refusal(
                    403, "Forbidden", f'{plural} is forbidden: User "ada" cannot {verb} resource "{plural}" in API group "{group}" {scope}'
                )
            if plural == "selfsubjectaccessreviews":
                return 201, body | {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] not in self.forbidden}}
            if method == "POST":
                return self._create(plural, namespace, body)
            if name is None:
                return 200, self._list(plural, namespace, query)
            return self._one(method, (plural, namespace, name), query, body)

    def _create(self, plural: str, namespace: str, body: Object) -> tuple[int, Any]:
        if namespace:
            body["metadata"]["namespace"] = namespace
        if (plural, namespace, body["metadata"]["name"]) in self.objects:
            return _refusal(409, "AlreadyExists", f'{plural} "{body["metadata"]["name"]}" already exists')
        if namespace and ("namespaces", "", namespace) not in self.objects and namespace != "default":
            return _refusal(404, "NotFound", f'namespaces "{namespace}" not found')
        return 201, self.put(body)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> Object:
        version, kind, _ = RESOURCES[plural]
        items = [item for (each, place, _), item in self.objects.items() if each == plural and namespace in ("", place)]
        chosen = [item for item in items if _selected(item, query.get("labelSelector", ""), query.get("fieldSelector", ""))]
        return {
            "apiVersion": version,
            "kind": f"{kind}List",
            "metadata": {"resourceVersion": str(self._versions)},
            "items": copy.deepcopy(chosen),
        }

    def _one(self, method: str, key: Key, query: dict[str, str], body: Any) -> tuple[int, Any]:
        plural, namespace, name = key
        if method == "PATCH" and "fieldManager" in query and key not in self.objects and body.get("kind"):
            return self._create(plural, namespace, body)
        if key not in self.objects:
            return _refusal(404, "NotFound", f'{plural} "{name}" not found')
        if method == "GET":
            return 200, self.objects[key]
        if method == "DELETE":
            for other in [other for other in self.objects if plural == "namespaces" and other[1] == name]:
                del self.objects[other]
            return 200, self.objects.pop(key)
        if method == "PUT":
            body["metadata"]["namespace"] = namespace
            return 200, self.put(body)
        if key in self.foreign and "fieldManager" in query and query.get("force") != "true":
            return _refusal(409, "Conflict", f'Apply failed with 1 conflict: conflict with "other" using v1: .data.a{self.conflict}')
        merged = copy.deepcopy(self.objects[key])
        _merge(merged, body)
        return 200, self.put(merged)


def _discovery(path: str) -> Object | None:
    versions = dict.fromkeys(version for version, _, _ in RESOURCES.values())
    groups = [version for version in versions if "/" in version]
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        entries = [{"groupVersion": version, "version": version.partition("/")[2]} for version in groups]
        listed = [{"name": entry["groupVersion"].partition("/")[0], "versions": [entry], "preferredVersion": entry} for entry in entries]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    prefix = {f"/api/{version}" if version == "v1" else f"/apis/{version}": version for version in versions}
    if path in prefix:
        resources = [
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": namespaced,
                "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update"],
            }
            for plural, (version, kind, namespaced) in RESOURCES.items()
            if version == prefix[path]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": prefix[path], "resources": resources}
    if path == "/openapi/v3":
        return {"paths": {url[1:]: {"serverRelativeURL": f"/openapi/v3{url}"} for url in prefix}}
    url = path.removeprefix("/openapi/v3")
    if path.startswith("/openapi/v3/") and url in prefix:
        return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": dict(_operations(url, prefix[url]))}
    return None


def _operations(url: str, version: str) -> Iterator[tuple[str, Object]]:
    """That the server validates fields itself; kubectl asks for no schema then."""
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    for plural, (own, kind, namespaced) in RESOURCES.items():
        if own == version:
            group, _, number = version.rpartition("/")
            operation = {"parameters": parameters, "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": number}}
            yield f"{url}{'/namespaces/{namespace}' if namespaced else ''}/{plural}/{{name}}", {"patch": operation}


def _selected(item: Object, labels: str, fields: str) -> bool:
    own = item["metadata"].get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, sign, value = re.fullmatch(r"([^=!]+)(==|=|!=)?(.*)", term).groups()  # type: ignore[union-attr]
        if (not sign and key not in own) or (sign in ("=", "==") and own.get(key) != value) or (sign == "!=" and own.get(key) == value):
            return False
    return all(
        item["metadata"].get(term.split("=")[0].removeprefix("metadata.")) == term.split("=")[1] for term in filter(None, fields.split(","))
    )


def _merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _refusal(status: int, reason: str, message: str) -> tuple[int, Object]:
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status}


@contextlib.contextmanager
def serving(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """The kubeconfig of a server for the cluster, in `folder`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            content = self.rfile.read(length)
            url = urllib.parse.urlsplit(self.path)
            # An applied document may be YAML.
            binary = content.startswith(kubernetes_protobuf.MAGIC)
            body = kubernetes_protobuf.read(content) if binary else yaml.safe_load(content) if content else None
            with cluster.lock:
                cluster.requests.append((self.command, url.path))
                status, document = cluster.respond(self.command, url.path, dict(urllib.parse.parse_qsl(url.query)), body)
                data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        def log_message(self, *args: object) -> None:
            """Log nothing: tests use `requests`."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            file = folder / "kubeconfig"
            address = f"http://127.0.0.1:{server.server_address[1]}"
            context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
            file.write_text(
                json.dumps({
                    "apiVersion": "v1", "kind": "Config", "current-context": "test", "contexts": [context],
                    "clusters": [{"name": "test", "cluster": {"server": address}}], "users": [{"name": "test", "user": {}}],
                })
            )  # fmt: skip
            yield file
        finally:
            server.shutdown()
            thread.join()
