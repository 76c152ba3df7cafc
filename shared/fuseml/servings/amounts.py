"""The requests and limits of the container of a model server."""

from __future__ import annotations

from fuseml.domain.application import Resources
from fuseml.domain.workflows import resources
from fuseml.servings.objects import Object


def of_container(wanted: Resources, cpu: str, memory: str) -> Object:
    """The requests and limits of the application over the serving's request of `cpu` and limit of `memory`, which give way where both
    contradict one another."""
    limits = {"memory": memory, **wanted.limits}
    requests = {"cpu": cpu, "memory": "256Mi", **wanted.requests}
    for name in requests.keys() & limits.keys():
        if resources.quantity(requests[name]) > resources.quantity(limits[name]):
            given, changed = (wanted.requests[name], limits) if name in wanted.requests else (limits[name], requests)
            changed[name] = given
    return {"requests": requests, "limits": limits}
