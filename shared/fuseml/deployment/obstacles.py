"""Obstacles: the reasons for which a pod cannot run, what to do about each, and how long it may last before the deployment gives up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]

_CRASHING = "CrashLoopBackOff"
_STARTING = ("ContainerCreating", "PodInitializing")
_IMAGE = frozenset(
    {"InvalidImageName", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_CONFIGURATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`text` is the reason in the words of Kubernetes, `remedy` the way out. `patience` is the time in seconds in which it may end by itself."""

    text: str
    remedy: str
    patience: float

    def __str__(self) -> str:
        return f"{self.text}\n  {self.remedy}"


def of_pod(pod: Object, image_option: str = "") -> Obstacle | None:
    """The obstacle of a pod; None while it starts or runs. `image_option` is the option that names its image.

    The last line of a container's termination message, if there is one, replaces the message of Kubernetes.
    """
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        terminated = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if not reason and not container.get("ready") and container.get("restartCount") and terminated.get("exitCode"):
            reason = _CRASHING  # it runs for a moment between two ends
        if not reason or reason in _STARTING:
            continue
        lines = (terminated.get("message") or "").strip().splitlines()
        if terminated:
            message = lines[-1].strip() if lines else f"it ended with exit code {terminated.get('exitCode')}"
        return _of_container(f"{reason}: {message}".strip(": "), reason, pod, image_option)
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _unschedulable(condition.get("reason", ""), condition.get("message", ""))
    return None


def _of_container(text: str, reason: str, pod: Object, image_option: str) -> Obstacle:
    name = pod.get("metadata", {}).get("name", "POD")
    if reason in _IMAGE:
        given = f"name another with {image_option}, or all of them" if image_option else "name all images"
        remedy = f"{given} in your mirror with --registry MIRROR; a private registry needs an image pull secret (docs/deployment.md)"
        return Obstacle(text, remedy, 15.0 if reason != "ErrImagePull" else 60.0)
    if reason in _CONFIGURATION:
        return Obstacle(
            text, f"kubectl describe pod {name} --namespace fuseml has the details; an object that it names is missing or wrong", 30.0
        )
    return Obstacle(text, f"kubectl logs {name} --namespace fuseml --all-containers --previous has the output", 120.0)


def _unschedulable(reason: str, message: str) -> Obstacle:
    text = f"{reason}: {message}".strip(": ")
    if "PersistentVolumeClaim" in message:
        return Obstacle(text, "the cluster needs a default storage class; see kubectl get storageclass,pvc --namespace fuseml", 120.0)
    # Clusters that add nodes need minutes.
    return Obstacle(text, "free or add what the cluster lacks (kubectl describe nodes)", 240.0)


def app_of(owner: str) -> str:
    """The application of a controller of pods: a StatefulSet, a Job, or the ReplicaSet of a Knative revision."""
    return re.sub(r"-\d{5}-deployment(-\w+)?$", "", owner)


def of_event(event: Object) -> Obstacle | None:
    """The obstacle in an event: a controller could not create a pod. None for other events."""
    if event.get("reason") != "FailedCreate":
        return None
    message = " ".join(str(event.get("message", "")).split())
    if "quota" in message:
        remedy = "raise the resource quota of the namespace, or free some of it (kubectl describe resourcequota --namespace fuseml)"
    elif "PodSecurity" in message:
        remedy = "the namespace enforces a pod security standard that the pod does not meet; FuseML's own pods meet `restricted`"
    elif "webhook" in message:
        remedy = "a policy of the cluster refuses the pod; the message names it"
    else:
        remedy = "kubectl get events --namespace fuseml has the details"
    return Obstacle(f"FailedCreate: {message}", remedy, 30.0)


@dataclass
class Watch:
    """Decides when an obstacle ends the wait for one subject. `clock` counts seconds."""

    clock: Callable[[], float] = time.monotonic
    _current: Obstacle | None = None
    _kind: str = ""
    _since: float = 0.0
    _reported: set[str] = field(default_factory=set)

    def see(self, obstacle: Obstacle | None) -> str:
        """Note the present obstacle. Returns the text to report: once for each."""
        kind = obstacle.text.partition(":")[0] if obstacle else ""
        # A pod alternates between the failure and the wait for the next attempt.
        same = {kind, self._kind} <= _IMAGE or kind == self._kind
        if obstacle is not None and not (same and self._current is not None):
            self._since = self.clock()
        self._current, self._kind = obstacle, kind
        topic = "image" if kind in _IMAGE else str(obstacle)
        if obstacle is None or topic in self._reported:
            return ""
        self._reported.add(topic)
        return str(obstacle)

    @property
    def is_final(self) -> bool:
        """Whether the present obstacle has lasted longer than its patience."""
        return self._current is not None and self.clock() - self._since >= self._current.patience

    @property
    def current(self) -> Obstacle | None:
        return self._current


def stale(stateful_set: Object, pods: Iterable[Object]) -> list[str]:
    """The pods that keep a StatefulSet from its present template: of an earlier one, and not ready.

    Kubernetes replaces pods of a StatefulSet in order, each only once its predecessor is ready, and so never one that cannot become ready.
    """
    wanted = stateful_set.get("status", {}).get("updateRevision")
    if not wanted or stateful_set["status"].get("observedGeneration") != stateful_set["metadata"].get("generation"):
        return []
    names = []
    for pod in pods:
        metadata, conditions = pod["metadata"], pod.get("status", {}).get("conditions", ())
        is_ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
        is_former = metadata.get("labels", {}).get("controller-revision-hash") not in (None, wanted)
        if is_former and not is_ready and not metadata.get("deletionTimestamp"):
            names.append(metadata["name"])
    return names
