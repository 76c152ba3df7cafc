"""A plain Job of Kubernetes: one pod for each node, none of them repeated. Record: docs/tools/kubernetes-job.md."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.steps import sdk
from fuseml.workloads import starting
from fuseml.workloads.kubernetes import api, pods
from fuseml.workloads.kubernetes.api import Object
from fuseml.workloads.merging import merged
from fuseml.workloads.port import Job, Position, Resources, Status

_JOBS = "apis/batch/v1:jobs"
_KEPT = 24 * 3600
"""Seconds for which Kubernetes keeps an ended Job and its pods. The log is then in the step's own."""
_USER = 65532
CONTAINER = "trainer"


class KubernetesJob:
    """Jobs of the cluster whose API is at `url`."""

    takes_code = False

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._api = api.Api(url, variables)

    def check(self, job: Job) -> None:
        if not job.image:
            raise sdk.StepError("a Job of Kubernetes needs the input 'image': one with the code, such as the output of an image builder")

    def submit(self, job: Job) -> None:
        created = self._api.create(_JOBS, _document(job)) or self._api.get(_JOBS, job.name)
        # The Secret comes second, because it ends with the Job. The pods wait for it.
        if job.secrets and created:
            owner = {"apiVersion": "batch/v1", "kind": "Job", **created}
            self._api.create("secrets", api.secret(job.name, job.secrets, api.labels(job.labels), owner))

    def observe(self, name: str) -> Status:
        found = self._api.get(_JOBS, name)
        if found is None:
            return Status("absent")
        if found["metadata"].get("deletionTimestamp"):
            return Status("cancelled")
        status = found.get("status") or {}
        conditions = {item["type"]: item for item in status.get("conditions") or () if item.get("status") == "True"}
        if "Complete" in conditions:
            return Status("succeeded")
        own = self._pods(name)
        if "Failed" in conditions:
            failed = conditions["Failed"]
            reported = ": ".join(filter(None, (failed.get("reason"), failed.get("message"))))
            return Status("failed", "; ".join(filter(None, (pods.cause(own), reported))))
        return pods.pending(own)

    def logs(self, name: str, position: Position) -> tuple[str, Position]:
        return pods.logs(self._api, self._pods(name), position)

    def cancel(self, name: str) -> None:
        if self.observe(name).state in ("queued", "running"):
            self._api.delete(_JOBS, name)

    def outputs(self, name: str) -> Mapping[str, str]:
        del name
        return {}

    def _pods(self, name: str) -> list[Object]:
        return self._api.list("pods", {"batch.kubernetes.io/job-name": name})


def _document(job: Job) -> Object:
    labels = api.labels(job.labels)
    container: Object = {
        "name": CONTAINER,
        "image": job.image,
        "command": starting.command(job.command),
        "env": api.variables({"HOME": "/tmp", **job.variables}, job.secrets, job.name),  # noqa: S108 (in the container)
        "resources": amounts(job.resources),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": job.nodes,
            "parallelism": job.nodes,
            "completionMode": "Indexed",
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": labels}, "spec": merged(pod, job.options)},
        },
    }


def amounts(resources: Resources) -> Object:
    """Requests and limits of a container. Accelerators are those of NVIDIA's device plugin."""
    given = {"cpu": resources.cpu, "memory": resources.memory, "nvidia.com/gpu": resources.gpu}
    found = {name: value for name, value in given.items() if value}
    return {"requests": found, "limits": found} if found else {}
