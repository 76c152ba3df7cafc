"""The cluster, as `kubectl` and `kn` know it: ask it, tell it, wait for it."""

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
PATIENCE = 600.0
"""Seconds that everything together may take to become ready."""

STARTED = time.monotonic()


class DeployError(Exception):
    """What went wrong and what to do about it, for the person at the terminal."""


def say(text: str) -> None:
    """A line of progress, with the seconds since the beginning."""
    sys.stdout.write(f"{time.monotonic() - STARTED:6.1f} s  {text}\n")
    sys.stdout.flush()


def run(*command: str, given: str | None = None) -> str:
    """What the command prints. Raises DeployError with what it complains about."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DeployError(f"the program {command[0]!r} is needed and is not on the PATH") from None
    if done.returncode:
        raise DeployError(f"{' '.join(command[:6])} ... failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None) -> str:
    return run("kubectl", *arguments, given=given)


def kn(*arguments: str) -> str:
    return run("kn", *arguments, "--namespace", NAMESPACE)


def find(kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
    """The object, if there is one."""
    text = kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    found: Object | None = json.loads(text) if text.strip() else None
    return found


def data(kind: str, name: str) -> dict[str, str]:
    """What is in a ConfigMap, or in a Secret, in plain text; nothing where there is none."""
    told: dict[str, str] = (find(kind, name) or {}).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in told.items()} if kind == "secret" else told


def rendered(folder: str, images: Mapping[str, str]) -> list[Object]:
    """The objects of a kustomization, with other images where these were asked for."""
    text = kubectl("kustomize", str(ROOT / folder))
    for name, other in images.items():
        text = text.replace(f"image: {name}\n", f"image: {other}\n")
    return [document for document in yaml.safe_load_all(text) if document]


def apply(documents: Iterable[Object]) -> None:
    """Server-side, so that we own only the fields that we name: Tekton's ConfigMaps are not ours. What we name no more goes away."""
    text = yaml.safe_dump_all(documents, sort_keys=False)
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=fuseml", "--filename=-", given=text)


def create_secret(name: str, namespace: str, contents: Mapping[str, str]) -> None:
    """Replaces what an attempt that was broken off has left."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "fuseml"}}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in contents.items()}
    apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}])


def wait(what: str, ready: Callable[[], str | None], app: str = "") -> None:
    """Until `ready` tells no more reason to wait; what keeps the pods of `app` from running is told meanwhile.

    Raises DeployError with the last reason.
    """
    told = ""
    while reason := ready():
        trouble = troubles().get(app, "") if app else ""
        if trouble and trouble != told:
            say(f"{what}: {trouble}")
            told = trouble
        if time.monotonic() - STARTED > PATIENCE:
            raise DeployError(f"{what} did not become ready: {told or reason}")
        time.sleep(0.5)
    say(what)


def troubles() -> dict[str, str]:
    """By application, what keeps a pod of ours from running."""
    ours = kubectl("get", "pods", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/part-of=fuseml", "--output=json")
    found = [(pod["metadata"]["labels"].get("app.kubernetes.io/name", ""), trouble_of(pod)) for pod in json.loads(ours)["items"]]
    return {app: trouble for app, trouble in found if trouble}


def trouble_of(pod: Object) -> str | None:
    """Why a container of the pod does not run, when it is not just starting: in its own last words, where it has said something."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if not reason or reason in ("ContainerCreating", "PodInitializing"):
            continue
        ended = container.get("lastState", {}).get("terminated", {})
        words = (ended.get("message") or "").strip().splitlines()
        if ended:
            message = words[-1].strip() if words else f"it ended with exit code {ended.get('exitCode')}"
        return f"{reason}: {message}".strip(": ")
    return None


def pending(kind: str, name: str) -> str | None:
    """Why the object is not ready; None when it is, in its present generation."""
    found = find(kind, name)
    status = (found or {}).get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    condition = conditions.get("Ready") or {"status": "Unknown", "message": "nothing is known yet"}
    if found and condition["status"] == "True" and status.get("observedGeneration") == found["metadata"]["generation"]:
        return None
    return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or "not ready yet"
