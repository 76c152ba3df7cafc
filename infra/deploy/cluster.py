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


def wait(what: str, ready: Callable[[], str | None]) -> None:
    """Until `ready` tells no more reason to wait. Raises DeployError with the last reason."""
    while reason := ready():
        if time.monotonic() - STARTED > PATIENCE:
            raise DeployError(f"{what} did not become ready: {reason}")
        time.sleep(0.5)
    say(what)


def pending(kind: str, name: str) -> str | None:
    """Why the object is not ready; None when it is, in its present generation."""
    found = find(kind, name)
    status = (found or {}).get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    condition = conditions.get("Ready") or {"status": "Unknown", "message": "nothing is known yet"}
    if found and condition["status"] == "True" and status.get("observedGeneration") == found["metadata"]["generation"]:
        return None
    return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or "not ready yet"
