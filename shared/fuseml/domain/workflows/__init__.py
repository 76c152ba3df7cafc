"""Workflows: the models of the document, with its loading, rules, lint, triggers and schedules, and the impact of registry changes."""

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
