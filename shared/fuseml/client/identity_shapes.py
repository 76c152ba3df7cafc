"""The caller, as the server describes it."""

from __future__ import annotations

from typing import Required, TypedDict


class StepOf(TypedDict):
    """The step that a token was made for."""

    project: str
    workflow: str
    run: str
    step: str


class Identity(TypedDict, total=False):
    """The caller as the server sees it; `kind` is user, step or anonymous, and `*` among the scopes is everything."""

    name: Required[str]
    role: Required[str]
    kind: Required[str]
    scopes: Required[list[str]]
    step: StepOf | None
