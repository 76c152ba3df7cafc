"""The pod security standard of the workloads' namespace.

A running installation changes it last: pods of runs that were rendered before may be refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping

from fuseml.deployment import cluster

LABEL = "pod-security.kubernetes.io/enforce"
"""The label of a namespace with the pod security standard that it enforces."""


def allow_image_builds(documents: Iterable[cluster.Object], *, allowed: bool) -> None:
    """Set the pod security of the workloads' namespace among the documents. Without image builds it enforces `restricted`, as its manifest
    does.
    """
    for document in _workloads(documents):
        if allowed:
            document["metadata"]["labels"][LABEL] = "privileged"


def keep(documents: Iterable[cluster.Object], deployed: cluster.Object | None) -> list[cluster.Object]:
    """Let the documents keep the standard of the `deployed` namespace of the workloads, if there is one. Returns the namespace as it is to be."""
    final = []
    for document in _workloads(documents):
        final.append(copy.deepcopy(document))
        if deployed is not None:
            labels = document["metadata"]["labels"]
            labels.pop(LABEL, None)
            labels |= {key: value for key, value in (deployed["metadata"].get("labels") or {}).items() if key == LABEL}
    return final


def enforce(namespaces: list[cluster.Object]) -> None:
    """Apply the namespaces, which `keep` has returned, unless that would refuse pods of unfinished runs. Reports these runs."""
    changed = [
        namespace
        for namespace in namespaces
        if (cluster.find("namespace", namespace["metadata"]["name"]) or namespace)["metadata"]["labels"].get(LABEL)
        != namespace["metadata"]["labels"].get(LABEL)
    ]
    if not changed:
        return
    refused = []
    if any(namespace["metadata"]["labels"].get(LABEL) == "restricted" for namespace in changed):
        listed = cluster.kubectl("get", "pipelineruns.tekton.dev", "--namespace", cluster.WORKLOADS, "--output=json")
        refused = refused_runs(json.loads(listed)["items"])
    if refused:
        cluster.report(
            f"the namespace {cluster.WORKLOADS} enforces no pod security yet, because it would refuse pods of the unfinished runs "
            f"{', '.join(refused)}; run the same command again after their end"
        )
        return
    cluster.apply(changed)
    cluster.report(f"pod security of the namespace {cluster.WORKLOADS}")


def refused_runs(pipeline_runs: Iterable[cluster.Object]) -> list[str]:
    """The unfinished PipelineRuns with pods that the standard `restricted` refuses: those of earlier versions, and those that build images."""
    return [item["metadata"]["name"] for item in pipeline_runs if not _is_finished(item) and not _is_confined(item["spec"])]


def _is_finished(pipeline_run: cluster.Object) -> bool:
    conditions = pipeline_run.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Succeeded" and condition["status"] != "Unknown" for condition in conditions)


def _is_confined(spec: Mapping[str, cluster.Object]) -> bool:
    pod = spec.get("taskRunTemplate", {}).get("podTemplate", {}).get("securityContext", {})
    tasks = spec.get("pipelineSpec", {}).get("tasks", [])
    steps = [step for task in tasks for step in task.get("taskSpec", {}).get("steps", [])]
    return bool(pod.get("runAsNonRoot")) and not any(step.get("securityContext", {}).get("privileged") for step in steps)


def _workloads(documents: Iterable[cluster.Object]) -> list[cluster.Object]:
    return [document for document in documents if document["kind"] == "Namespace" and document["metadata"]["name"] == cluster.WORKLOADS]
