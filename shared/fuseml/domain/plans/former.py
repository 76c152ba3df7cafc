"""Plans that a former release has stored."""

from __future__ import annotations

from fuseml.domain import plans

_SHARED_TOKEN = "fuseml/serving/workload/FUSEML_API_TOKEN"  # noqa: S105 - a reference, no token
"""The permanent token that all steps shared until release 0.1."""


def with_step_tokens(plan: plans.Plan) -> plans.Plan:
    """The plan with a token of its own for each step that was planned with the shared one."""
    return plan.model_copy(update={"steps": tuple(_with_token(step) for step in plan.steps)})


def _with_token(step: plans.StepPlan) -> plans.StepPlan:
    def replaced(value: plans.Value) -> plans.Value:
        return tuple(
            plans.step_token(step.name) if isinstance(part, plans.SecretPart) and part.ref == _SHARED_TOKEN else part for part in value
        )

    if not any(isinstance(part, plans.SecretPart) and part.ref == _SHARED_TOKEN for part in plans.parts_of(step)):
        return step
    variables = tuple(item.model_copy(update={"value": replaced(item.value)}) for item in step.variables)
    return step.model_copy(update={"variables": variables})
