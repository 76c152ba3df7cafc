"""Tools that train: the step `trainer` submits a job to the one that the binding of the category `training` has found.

The resource of the service decides. Another tool is one more line of the table. The package runs in the image of the steps, so it imports
nothing of FuseML but the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuseml.steps import sdk
from fuseml.workloads.port import ENDS, LONGEST_NAME, Job, Position, Resources, State, Status, Workload

__all__ = ["ENDS", "LONGEST_NAME", "TOOLS", "Job", "Position", "Resources", "State", "Status", "Workload", "connect"]


def _ray(url: str, variables: Mapping[str, str]) -> Workload:
    from fuseml.workloads import ray

    return ray.Ray(url, variables)


def _trainjob(url: str, variables: Mapping[str, str]) -> Workload:
    from fuseml.workloads import kubernetes

    return kubernetes.TrainJob(url, variables)


def _job(url: str, variables: Mapping[str, str]) -> Workload:
    from fuseml.workloads import kubernetes

    return kubernetes.KubernetesJob(url, variables)


def _determined(url: str, variables: Mapping[str, str]) -> Workload:
    from fuseml.workloads import determined

    return determined.Determined(url, variables)


TOOLS: Mapping[str, Callable[[str, Mapping[str, str]], Workload]] = {
    "ray-jobs": _ray,
    "kubeflow-trainjob": _trainjob,
    "kubernetes-job": _job,
    "determined-experiments": _determined,
}
"""Resource of the service -> constructor, which gets the endpoint and the variables of the binding."""


def connect(resource: str, url: str, variables: Mapping[str, str]) -> Workload:
    """The tool behind the binding. Raises StepError for a resource that no tool has."""
    if resource not in TOOLS:
        other = " (its agents are of the step ghcr.io/fuseml/workload:v1)" if resource == "fuseml-workload" else ""
        raise sdk.StepError(
            f"the trainer knows no training service with the resource '{resource}'{other}; it knows {', '.join(sorted(TOOLS))}"
        )
    return TOOLS[resource](url, variables)
