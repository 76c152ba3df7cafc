"""HTTP of `/whoami`: the caller as this server sees it."""

from __future__ import annotations

from typing import Literal

import pydantic

from fuseml.runtime import auth, http

EVERYTHING = "*"
"""The scope of a token that may do everything."""


class StepOf(pydantic.BaseModel):
    """The step that a token was made for."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    project: str
    workflow: str
    run: str
    step: str


class Identity(pydantic.BaseModel):
    """`name` stands in the records of decisions. `kind` is `user`, `step`, or `anonymous` for callers without a token. `scopes` are what the token
    is good for; `*` is everything."""

    name: str
    role: auth.Role
    kind: Literal["user", "step", "anonymous"]
    scopes: list[str]
    step: StepOf | None = None


def of(caller: auth.Caller) -> Identity:
    """The description of a caller."""
    if caller.step is None:
        return Identity(name=caller.name, role=caller.role, kind="anonymous" if caller.anonymous else "user", scopes=[EVERYTHING])
    return Identity(
        name=caller.name, role=caller.role, kind="step", scopes=list(caller.step.scopes), step=StepOf.model_validate(caller.step)
    )


def register(api: http.Api) -> None:
    """The operation `/whoami`, for every valid token."""

    @api.route("GET", "/whoami", returns=Identity, step=auth.ANY_SCOPE)
    def whoami() -> Identity:
        """The caller as this server sees it: name, role, and what the token is good for."""
        return of(http.caller())
