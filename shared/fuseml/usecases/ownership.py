"""Owners of applications: the project, and the codeset where one is recorded. An application keeps its owner until it is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fuseml.domain import application, errors
from fuseml.runtime import auth

SCOPE = "applications"
"""The scope of a step's token that is good for its applications and the artifacts of its project."""


def of_step(registered: application.Registration, step: auth.StepCaller) -> application.Registration:
    """The registration with the origin of the step that sends it. Raises ForbiddenError for a claim of another origin."""
    own = {"project": step.project, "codeset": step.codeset, "workflow": step.workflow, "run": step.run}
    for name, value in own.items():
        claimed = getattr(registered, name)
        if claimed and claimed != value:
            raise errors.ForbiddenError(f"a step of run {step.run} registers applications of its own {name} {value!r}, not of {claimed!r}")
    return registered.model_copy(update=own)


def replacing(registered: application.Registration, document: Mapping[str, Any]) -> application.Registration:
    """The registration that replaces `document`, with its owner. Raises ConflictError for an application of another owner."""
    kept: dict[str, str] = {}
    for name in ("project", "codeset"):
        owner, claimed = document.get(name), getattr(registered, name)
        if owner and claimed and claimed != owner:
            raise errors.ConflictError(
                f"the application {registered.name!r} belongs to the {name} {owner!r}, not to {claimed!r}; "
                "choose another name, or delete that application first"
            )
        if owner and not claimed:
            kept[name] = owner
    return registered.model_copy(update=kept)


def check_step(document: Mapping[str, Any] | None, name: str, step: auth.StepCaller) -> None:
    """Raises ForbiddenError unless the application belongs to the step; alike for an unknown one (None), so that names cannot be probed."""
    owner = (document or {}).get("codeset")
    if (
        SCOPE not in step.scopes
        or document is None
        or document.get("project") != step.project
        or (owner and step.codeset and owner != step.codeset)
    ):
        raise errors.ForbiddenError(f"no application {name!r} belongs to run {step.run}, and a step's token is for its own only")
