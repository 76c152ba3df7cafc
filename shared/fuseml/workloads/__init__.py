"""Tools that train: the step `trainer` submits a job to the one that the binding of the category `training` has found.

The resource of the service decides. Another tool is one more line of the table, or a plugin of another package. The package runs in the image of
the steps, so it imports nothing of FuseML but the steps and the search for plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuseml.plugins import Seam
from fuseml.steps import sdk
from fuseml.workloads.port import ENDS, LONGEST_NAME, Job, Position, Resources, State, Status, Workload

__all__ = ["ENDS", "LONGEST_NAME", "PLUGINS", "TOOLS", "Job", "Position", "Resources", "State", "Status", "Workload", "connect"]


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


Connector = Callable[[str, Mapping[str, str]], Workload]

TOOLS: Mapping[str, Connector] = {
    "ray-jobs": _ray,
    "kubeflow-trainjob": _trainjob,
    "kubernetes-job": _job,
    "determined-experiments": _determined,
}
"""Resource of the service -> constructor, which gets the endpoint and the variables of the binding."""


PLUGINS: Seam[Connector] = Seam(
    "fuseml.workloads",
    1,
    TOOLS,
    refusal=sdk.StepError,
    own=sdk.StepError,
    shape="a callable that takes the URL of the endpoint and the variables of the binding",
)
"""Constructors of other packages, each under the resource of its service."""


def connect(resource: str, url: str, variables: Mapping[str, str]) -> Workload:
    """The tool behind the binding. Raises StepError for a resource that no tool has, and for a plugin that cannot be used."""
    if resource in TOOLS:
        return TOOLS[resource](url, variables)
    plugin = PLUGINS.get(resource)
    if plugin is None:
        other = " (its agents are of the step ghcr.io/fuseml/workload:v1)" if resource == "fuseml-workload" else ""
        known = ", ".join(sorted({*TOOLS, *PLUGINS.names()}))
        raise sdk.StepError(f"the trainer knows no training service with the resource '{resource}'{other}; it knows {known}")
    return PLUGINS.call(resource, plugin, url, variables)
