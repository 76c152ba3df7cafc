"""The resources that containers of a run ask for: the declared ones, and those of the installation."""

from __future__ import annotations

from fuseml.domain import plans
from fuseml.domain.workflows import resources
from fuseml.engines.tekton import settings
from fuseml.engines.tekton.values import Object

AUXILIARY: Object = {"requests": {"cpu": "25m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}
_LEAST = {"cpu": "100m", "memory": "128Mi"}
"""Requests of a step that declares none. A limit of the processor would only slow a step down, so there is none."""


def of_step(step: plans.StepPlan, settings: settings.Settings) -> Object:
    """The declared amounts, and the installation's for resources without any: a request must not exceed its limit."""
    declared = {**step.resources.requests, **step.resources.limits}
    requests = {resource: amount for resource, amount in _LEAST.items() if resource not in declared}
    limits = {"memory": settings.memory_limit} if "memory" not in declared else {}
    return {"requests": {**requests, **step.resources.requests}, "limits": {**limits, **step.resources.limits}}


def without_devices(amounts: Object) -> Object:
    """The amounts of a container beside another of its pod that asks for the devices: a pod gets the sum."""
    return {kind: {name: amount for name, amount in listed.items() if not resources.is_extended(name)} for kind, listed in amounts.items()}
