"""Access to the cluster with `kubectl` and `kn`: read objects, apply them, wait until they are ready."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

Object = dict[str, Any]

ROOT = pathlib.Path(__file__).parents[2]
NAMESPACE, WORKLOADS = "fuseml", "fuseml-workloads"
READY_SECONDS = 600.0
"""The time, from the start of the command, in which everything must become ready."""

STARTED = time.monotonic()


class DeployError(Exception):
    """The problem and the way out, as text for the terminal."""


def report(text: str) -> None:
    """Print a line of progress, with the seconds since the start of the command."""
    sys.stdout.write(f"{time.monotonic() - STARTED:6.1f} s  {text}\n")
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
    text = kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    found: Object | None = json.loads(text) if text.strip() else None
    return found


def data(kind: str, name: str) -> dict[str, str]:
    """The values of a ConfigMap or Secret in plain text; empty if it does not exist."""
    values: dict[str, str] = (find(kind, name) or {}).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in values.items()} if kind == "secret" else values


def render(folder: str, images: Mapping[str, str]) -> list[Object]:
    """The objects of a kustomization. `images` maps images of the manifests to their replacements."""
    text = kubectl("kustomize", str(ROOT / folder))
    for name, other in images.items():
        text = text.replace(f"image: {name}\n", f"image: {other}\n")
    return [document for document in yaml.safe_load_all(text) if document]


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


def wait(subject: str, not_ready: Callable[[], str | None], app: str = "") -> None:
    """Wait until `not_ready` returns no reason any more. Meanwhile report failures of the pods of `app`.

    Raises DeployError with the last failure or reason.
    """
    reported = ""
    while reason := not_ready():
        failure = pod_failures().get(app, "") if app else ""
        if failure and failure != reported:
            report(f"{subject}: {failure}")
            reported = failure
        if time.monotonic() - STARTED > READY_SECONDS:
            raise DeployError(f"{subject} did not become ready: {reported or reason}")
        time.sleep(0.5)
    report(subject)


def pod_failures() -> dict[str, str]:
    """The failure of a pod by application, for the pods of FuseML that cannot run."""
    text = kubectl("get", "pods", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/part-of=fuseml", "--output=json")
    failures = [(pod["metadata"]["labels"].get("app.kubernetes.io/name", ""), failure_of(pod)) for pod in json.loads(text)["items"]]
    return {app: failure for app, failure in failures if failure}


def failure_of(pod: Object) -> str | None:
    """The reason why a container of the pod cannot run; None while it starts or runs.

    The last line of the container's termination message, if there is one, replaces the message of Kubernetes.
    """
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if not reason or reason in ("ContainerCreating", "PodInitializing"):
            continue
        terminated = container.get("lastState", {}).get("terminated", {})
        lines = (terminated.get("message") or "").strip().splitlines()
        if terminated:
            message = lines[-1].strip() if lines else f"it ended with exit code {terminated.get('exitCode')}"
        return f"{reason}: {message}".strip(": ")
    return None


def not_ready(kind: str, name: str) -> str | None:
    """The reason why the object is not ready; None when its present generation is."""
    found = find(kind, name)
    status = (found or {}).get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    condition = conditions.get("Ready") or {"status": "Unknown", "message": "its status is not known yet"}
    if found and condition["status"] == "True" and status.get("observedGeneration") == found["metadata"]["generation"]:
        return None
    return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or "not ready yet"
