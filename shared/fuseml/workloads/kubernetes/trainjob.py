"""A TrainJob of Kubeflow Trainer 2, which runs it as a JobSet. Record: docs/tools/kubeflow-trainer.md.

JobSet deletes the pod of a failed attempt where the runtime restarts pods, and its log with it. A failed node therefore stays for some
seconds, in which the log is read; a runtime with `restartPolicy: Never` keeps the pod.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fuseml.steps import sdk
from fuseml.workloads import starting
from fuseml.workloads.kubernetes import api, pods
from fuseml.workloads.kubernetes.api import Object
from fuseml.workloads.kubernetes.job import amounts
from fuseml.workloads.merging import merged
from fuseml.workloads.port import Job, Position, Status

_TRAINJOBS = "apis/trainer.kubeflow.org/v1alpha1:trainjobs"
_LINGER = "10"
_MOST_VARIABLES = 128


class TrainJob:
    """TrainJobs of the cluster whose API is at `url`. Variables: those of `api`, TRAINING_RUNTIME (the name of a ClusterTrainingRuntime, or
    `namespaced/NAME` for a TrainingRuntime of the namespace)."""

    takes_code = False

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._api = api.Api(url, variables)
        self._runtime = variables.get("TRAINING_RUNTIME", "")

    def check(self, job: Job) -> None:
        if not self._runtime_of(job):
            raise sdk.StepError(
                "a TrainJob needs a training runtime: give TRAINING_RUNTIME in the record, or runtimeRef in the input 'options'"
            )
        given = len(job.variables) + len(job.secrets) + 1
        if given > _MOST_VARIABLES:
            raise sdk.StepError(f"a TrainJob takes at most {_MOST_VARIABLES} variables, and this one has {given}: give fewer parameters")

    def submit(self, job: Job) -> None:
        created = self._api.create(_TRAINJOBS, self._document(job)) or self._api.get(_TRAINJOBS, job.name)
        if job.secrets and created:
            owner = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", **created}
            self._api.create("secrets", api.secret(job.name, job.secrets, api.labels(job.labels), owner))

    def observe(self, name: str) -> Status:
        found = self._api.get(_TRAINJOBS, name)
        if found is None:
            return Status("absent")
        if found["metadata"].get("deletionTimestamp"):
            return Status("cancelled")
        conditions = {item["type"]: item for item in (found.get("status") or {}).get("conditions") or () if item.get("status") == "True"}
        if "Complete" in conditions:
            return Status("succeeded")
        # A TrainJob has no condition while it runs: its pods show that.
        own = self._pods(name)
        if "Failed" in conditions:
            failed = conditions["Failed"]
            reported = ": ".join(filter(None, (failed.get("reason"), failed.get("message"))))
            return Status("failed", "; ".join(filter(None, (pods.cause(own), reported))))
        if "Suspended" in conditions:
            suspended = conditions["Suspended"]
            return Status("queued", waiting=f"it is suspended: {suspended.get('message') or suspended.get('reason') or ''}")
        return pods.pending(own)

    def logs(self, name: str, position: Position) -> tuple[str, Position]:
        return pods.logs(self._api, self._pods(name), position)

    def cancel(self, name: str) -> None:
        if self.observe(name).state in ("queued", "running"):
            self._api.delete(_TRAINJOBS, name)

    def outputs(self, name: str) -> Mapping[str, str]:
        """The metrics that the training has reported to the Trainer."""
        found = self._api.get(_TRAINJOBS, name) or {}
        status = (found.get("status") or {}).get("trainerStatus") or {}
        metrics = {str(item["name"]): str(item["value"]) for item in status.get("metrics") or ()}
        return {"metrics": json.dumps(dict(sorted(metrics.items())))} if metrics else {}

    def _pods(self, name: str) -> list[Object]:
        return self._api.list("pods", {"jobset.sigs.k8s.io/jobset-name": name})

    def _runtime_of(self, job: Job) -> Object:
        kind, _, name = self._runtime.rpartition("/")
        given = {"name": name, "kind": "TrainingRuntime" if kind else "ClusterTrainingRuntime"} if name else {}
        return merged(given, job.options.get("runtimeRef") or {})

    def _document(self, job: Job) -> Object:
        trainer: Object = {
            "command": starting.command(job.command),
            "env": api.variables({starting.LINGER: _LINGER, **job.variables}, job.secrets, job.name),
            "numNodes": job.nodes,
        }
        if job.image:
            trainer["image"] = job.image
        if found := amounts(job.resources):
            trainer["resourcesPerNode"] = found
        spec = merged({"runtimeRef": self._runtime_of(job), "trainer": trainer}, job.options)
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": job.name, "labels": api.labels(job.labels)},
            "spec": spec,
        }
