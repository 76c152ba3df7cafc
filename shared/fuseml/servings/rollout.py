"""The rollout of a new revision by a Deployment, as its pods show it: who answers, whether it is complete, and why it is not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuseml.domain import errors
from fuseml.servings import objects
from fuseml.servings.objects import Object

# Reasons of a container that waits and will not start by itself. One that waits for its image or its volume is none of them.
_STUCK = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}
# The time, the logger and the level before the message of a line.
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d[ T][\d:.,]+\S* .*?\b(?:ERROR|CRITICAL|FATAL)\b(?: \[[^\]]*\])?[ :-]*")
# The whole log, as the API answers it, where the runtime of the node has removed the container.
_NO_LOG = "unable to retrieve container logs for"
LINGERS = "the pods of the former revision end, and still answer on open connections"
ReadLog = Callable[[str, str, bool], str]
"""(pod, container, former) -> the last lines of its log. Raises FusemlError."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The container of a pod that failed. `message` is the line that it ended with, or the reason that Kubernetes reports."""

    pod: str
    container: str
    message: str


def is_complete(deployment: Mapping[str, Any], revision: int) -> bool:
    """Whether all pods of the Deployment, and at least one, are available and of this revision of the application."""
    status, spec = deployment.get("status", {}), deployment.get("spec", {})
    updated = status.get("updatedReplicas", 0)
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and objects.number(spec.get("template", {})) == revision
        and 0 < updated == status.get("replicas", 0) == status.get("availableReplicas", 0)
        and updated >= spec.get("replicas", 1)
    )


def answering(pods: Sequence[Object]) -> dict[int, int]:
    """Revision -> percent of the requests, by the ready pods of one Service, among which it distributes them evenly."""
    ready = Counter(number for pod in pods if _is_ready(pod) and (number := objects.number(pod)) is not None)
    total = sum(ready.values())
    shares = {number: count * 100 // total for number, count in sorted(ready.items())}
    if shares:
        shares[max(shares, key=lambda number: ready[number])] += 100 - sum(shares.values())
    return shares


def lingers(pods: Sequence[Object], traffic: Mapping[int, int]) -> bool:
    """Whether a pod of a revision without a share ends, and still answers on the connections that callers keep open. One on a lost node does not:
    it is not ready."""
    return any(
        "deletionTimestamp" in pod["metadata"] and objects.number(pod) is not None and objects.number(pod) not in traffic and _answers(pod)
        for pod in pods
    )


def failure(pods: Sequence[Object], revision: int, read_log: ReadLog) -> Failure | None:
    """The first container of the revision's pods that failed or cannot start; None while all may still become ready."""
    for pod in pods:
        if objects.number(pod) != revision or _is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
            continue
        for status in _containers(pod):
            ended = status.get("state", {}).get("terminated") or {}
            former = status.get("lastState", {}).get("terminated")
            # A model server that cannot load its model may end with code 0, and is started again; an init container that did its work is not.
            # The server may count as ready in a pod that is not: in Knative's pods another container is probed.
            failed = ended.get("reason", "Completed") != "Completed" or (former and not ended)
            if failed and (found := _ended(pod, status, ended or former or {}, read_log)):
                return found
            waiting = status.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                return Failure(pod["metadata"]["name"], status["name"], waiting.get("message") or waiting["reason"])
    return None


def refusal(deployment: Mapping[str, Any]) -> str:
    """The reason why the cluster admits no pod of the Deployment, such as the security standard of the namespace; empty where it does."""
    conditions = {condition["type"]: condition for condition in deployment.get("status", {}).get("conditions", ())}
    condition = conditions.get("ReplicaFailure", {})
    return last_line(condition.get("message", "")) if condition.get("status") == "True" else ""


def cause(output: str) -> str:
    """The cause in the output of a program that failed: its last exception, since servers go on to write while they end, or its last line."""
    lines = output.splitlines()
    for start in reversed([index for index, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]):
        exception = next((line.strip() for line in lines[start + 1 :] if line.strip() and not line.startswith(" ")), "")
        if exception:
            return exception
    return _STAMP.sub("", last_line(output))


def last_line(text: str) -> str:
    """The last line with content: the cause in the output of a program that ended."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip(" .")), "")


def _ended(pod: Object, status: Mapping[str, Any], terminated: Mapping[str, Any], read_log: ReadLog) -> Failure | None:
    """The failure; None where the container runs again for the first time and its former log is gone: its next end shows the cause."""
    name = pod["metadata"]["name"]
    message = cause(terminated.get("message") or "")
    if not message:
        try:
            message = cause(read_log(name, status["name"], "terminated" not in status.get("state", {})))
        except errors.PermanentError as error:  # the log went with the container
            message = f"its log cannot be read: {error.message}"
        if message.startswith(_NO_LOG):
            if "running" in status.get("state", {}) and status.get("restartCount") == 1:
                return None
            message = ""
    return Failure(name, status["name"], message or f"it ended with exit code {terminated.get('exitCode')}")


def _containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())


def _is_ready(pod: Object) -> bool:
    # A pod that ends keeps its condition for a while, and gets no new connections.
    return "deletionTimestamp" not in pod["metadata"] and _answers(pod)


def _answers(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
