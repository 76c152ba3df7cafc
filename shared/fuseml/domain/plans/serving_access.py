"""The serving of a predictor step: which one its binding names, and the access to FuseML's API, which registers the application there."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import model_servers, plans, workflows
from fuseml.domain.registry import selector
from fuseml.domain.workflows import deployment, original_steps
from fuseml.domain.workflows.models import ExtensionRequirement

VARIABLE = "FUSEML_SERVING"
"""The variable with the resource of the serving; without it FuseML's own serves. A record's configuration may set it to another one."""

_API = "FUSEML_API_URL"
_OWN = ExtensionRequirement(name="fuseml.api", product="fuseml", service_resource=model_servers.FUSEML)
_IMAGE = original_steps.PREDICTOR.rpartition(":")[0]


def completed(workflow: workflows.Workflow, bindings: Mapping[str, Mapping[str, selector.Binding]]) -> workflows.Workflow:
    """The workflow with a selector of FuseML's own record for each predictor step whose bindings hold no address of its API."""
    steps = [
        step.model_copy(update={"extensions": [*step.extensions, _OWN]}) if _lacks_api(step, bindings.get(step.name, {})) else step
        for step in workflow.steps
    ]
    return workflow.model_copy(update={"steps": steps}) if steps != workflow.steps else workflow


def _lacks_api(step: workflows.Step, bound: Mapping[str, selector.Binding]) -> bool:
    is_predictor = step.image == _IMAGE or step.image.startswith((f"{_IMAGE}:", f"{_IMAGE}@"))
    serves = any(binding.service_category == deployment.CATEGORY for binding in bound.values())
    given = {item.name for item in step.env} | {key for binding in bound.values() for key in (*binding.configuration, *binding.secret_keys)}
    return is_predictor and serves and _API not in given


def variables(binding: selector.Binding) -> dict[str, plans.Value]:
    """The variables that name the serving; none for FuseML's own, and for services of another category."""
    if binding.service_category != deployment.CATEGORY or binding.service_resource in ("", model_servers.FUSEML):
        return {}
    return {VARIABLE: plans.text(binding.service_resource)}
