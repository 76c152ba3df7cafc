"""Access to the cluster with `kubectl` and `kn`: read objects, apply them, wait until they are ready."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from fuseml.deployment import obstacles
from fuseml.deployment.images import Images
from fuseml.domain import inert_text

Object = dict[str, Any]

_PACKAGE = pathlib.Path(__file__).parents[1]
NAMESPACE, WORKLOADS = "fuseml", "fuseml-workloads"
READY_SECONDS = 600.0
"""The time, from the start of the command, in which everything must become ready."""

STARTED = time.monotonic()


class DeployError(Exception):
    """The problem and the way out, as text for the terminal."""


def report(text: str) -> None:
    """Print a line of progress, with the seconds since the start of the command."""
    # Names and messages of the cluster may hold sequences that a terminal obeys.
    sys.stdout.write(f"{time.monotonic() - STARTED:6.1f} s  {inert_text.visible(text)}\n")
    sys.stdout.flush()


def run(*command: str, stdin: str | None = None) -> str:
    """The standard output of the command. Raises DeployError with its error output."""
    try:
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DeployError(f"the program {command[0]!r} is required and is not on the PATH; install it") from None
    if result.returncode:
        raise DeployError(f"{' '.join(command[:6])} ... failed:\n{result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return run("kubectl", *arguments, stdin=stdin)


def kn(*arguments: str) -> str:
    return run("kn", *arguments, "--namespace", NAMESPACE)


def find(kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
    """The object; None if it does not exist."""
    text = kubectl("get", kind, name, *(["--namespace", namespace] if namespace else []), "--output", "json", "--ignore-not-found")
    found: Object | None = json.loads(text) if text.strip() else None
    return found


def data(kind: str, name: str) -> dict[str, str]:
    """The values of a ConfigMap or Secret in plain text; empty if it does not exist."""
    values: dict[str, str] = (find(kind, name) or {}).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in values.items()} if kind == "secret" else values


def place(folder: str) -> pathlib.Path:
    """The folder of a kustomization, named as in the repository: packaged beside the library, or in a source tree."""
    packaged = _PACKAGE / ("eventing" if folder == "eventing" else f"manifests/{folder}")
    return packaged if packaged.exists() else _PACKAGE.parents[1] / folder


def render(folder: str, images: Images) -> list[Object]:
    """The objects of a kustomization, with the images of this installation."""
    documents = [document for document in yaml.safe_load_all(kubectl("kustomize", str(place(folder)))) if document]
    for container in containers(documents):
        container["image"] = images.of(container["image"])
    return documents


def containers(documents: Iterable[Object]) -> Iterator[Object]:
    """The containers in the pods of the objects."""
    for document in documents:
        spec = document.get("spec", {})
        pod = spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec", {})
        yield from (*pod.get("initContainers", ()), *pod.get("containers", ()))


def apply(documents: Iterable[Object]) -> None:
    """Apply server-side: FuseML owns only the fields in the documents, since Tekton's ConfigMaps hold others. Fields that are missing in a later
    call are removed.
    """
    text = yaml.safe_dump_all(documents, sort_keys=False)
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=fuseml", "--filename=-", stdin=text)


def pod_networks() -> list[str]:
    """The networks of the nodes' pods, as far as Kubernetes assigns them."""
    nodes = json.loads(kubectl("get", "nodes", "--output", "json"))["items"]
    return [network for node in nodes for network in node["spec"].get("podCIDRs") or ()]


def create_secret(name: str, namespace: str, contents: Mapping[str, str]) -> None:
    """Create the Secret, or replace the one that an interrupted deployment has left."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "fuseml"}}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in contents.items()}
    apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}])


def wait(subject: str, not_ready: Callable[[], str | None], app: str = "", image_option: str = "") -> None:
    """Wait until `not_ready` returns no reason any more. Meanwhile report what keeps the pods of `app` from running, and the way out.

    Raises DeployError when an obstacle does not end by itself, and after READY_SECONDS, with the last obstacle or reason.
    """
    watch = obstacles.Watch()
    while reason := not_ready():
        if app:
            text = watch.see(pod_obstacles(image_option).get(app))
            if text:
                report(f"{subject}: {text}")
        if watch.is_final or time.monotonic() - STARTED > READY_SECONDS:
            raise unready(subject, str(watch.current or reason))
        time.sleep(0.5)
    report(subject)


def unready(subject: str, reason: str) -> DeployError:
    """The end of a wait that leads nowhere."""
    return DeployError(f"{subject} did not become ready: {reason}\nThen run the same command again: it continues where it ended.")


def pod_obstacles(image_option: str = "") -> dict[str, obstacles.Obstacle]:
    """The obstacle by application, for the applications of FuseML that have a pod that cannot run, or get none."""
    objects = _items("pods,ksvc", "--selector=app.kubernetes.io/part-of=fuseml")
    latest = {
        item["metadata"]["name"]: item.get("status", {}).get("latestCreatedRevisionName") for item in objects if item["kind"] == "Service"
    }
    found: dict[str, obstacles.Obstacle] = {}
    for event in _items("events", _FAILED_CREATE):
        obstacle = obstacles.of_event(event)
        if obstacle is not None and (event["metadata"]["uid"], event.get("count")) not in _FORMER_EVENTS:
            found[obstacles.app_of(event["involvedObject"]["name"])] = obstacle
    for pod in objects:
        labels = pod["metadata"]["labels"]
        app, revision = labels.get("app.kubernetes.io/name", ""), labels.get("serving.knative.dev/revision")
        if pod["kind"] != "Pod" or revision != latest.get(app):
            continue  # the pods of an earlier revision do not count
        found.pop(app, None)  # it has got its pod
        obstacle = obstacles.of_pod(pod, image_option)
        if obstacle is not None:
            found[app] = obstacle
    return found


_FAILED_CREATE = "--field-selector=reason=FailedCreate"


def _items(kinds: str, *arguments: str) -> list[Object]:
    items: list[Object] = json.loads(kubectl("get", kinds, "--namespace", NAMESPACE, "--output=json", *arguments))["items"]
    return items


_FORMER_EVENTS: set[tuple[str, int | None]] = set()
"""The events, by uid and count, that are older than this command."""


def remember_events() -> None:
    """Note the present events, so that `pod_obstacles` ignores the failures of an earlier deployment."""
    _FORMER_EVENTS.update((event["metadata"]["uid"], event.get("count")) for event in _items("events", _FAILED_CREATE))


def replace_stale_pods(name: str) -> None:
    """Delete the pods of a StatefulSet that keep it from its present template (`obstacles.stale`)."""
    pods = _items("pods", f"--selector=app.kubernetes.io/name={name}")
    for pod in obstacles.stale(find("statefulset", name) or {"metadata": {}}, pods):
        kubectl("delete", "pod", pod, "--namespace", NAMESPACE, "--wait=false", "--ignore-not-found")
        report(f"the pod {pod} of an earlier deployment never became ready and is replaced")


def not_ready(kind: str, name: str) -> str | None:
    """The reason why the object is not ready; None when its present generation is."""
    found = find(kind, name)
    return not_ready_reason(found) if found else "its status is not known yet"


def not_ready_reason(item: Mapping[str, Any]) -> str | None:
    """As `not_ready`, of an object that was read."""
    status = item.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    condition = conditions.get("Ready") or {"status": "Unknown", "message": "its status is not known yet"}
    if condition["status"] == "True" and status.get("observedGeneration") == item["metadata"]["generation"]:
        return None
    return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or "not ready yet"


def list_objects(kind: str) -> list[Object]:
    """The objects of a kind in the namespace of the functions; empty where the cluster does not know the kind."""
    try:
        return _items(kind)
    except DeployError as error:
        if "the server doesn't have a resource type" in str(error):
            return []
        raise
