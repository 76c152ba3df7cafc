"""Workflows: the models of the document, with its loading, rules, lint, triggers and schedules, and the impact of registry changes."""

from fuseml.domain.workflows.fields import seconds
from fuseml.domain.workflows.models import (
    Approval,
    ArtifactInput,
    ArtifactOutput,
    CodesetMount,
    ExtensionRequirement,
    On,
    Push,
    Step,
    StepInput,
    StepOutput,
    When,
    Workflow,
)

__all__ = [
    "Approval",
    "ArtifactInput",
    "ArtifactOutput",
    "CodesetMount",
    "ExtensionRequirement",
    "On",
    "Push",
    "Step",
    "StepInput",
    "StepOutput",
    "When",
    "Workflow",
    "seconds",
]
