"""Workflows: the models of the document; beside them its loading, rules, triggers, and what the registry would give it."""

from fuseml.domain.workflows.models import (
    CodesetMount,
    ExtensionRequirement,
    On,
    Push,
    Step,
    StepInput,
    StepOutput,
    When,
    Workflow,
    seconds,
)

__all__ = ["CodesetMount", "ExtensionRequirement", "On", "Push", "Step", "StepInput", "StepOutput", "When", "Workflow", "seconds"]
