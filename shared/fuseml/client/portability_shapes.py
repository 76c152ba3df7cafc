"""The comparison of a workflow's bindings on two instances, as dictionaries with known keys; a test holds them equal to the OpenAPI document."""

from __future__ import annotations

from typing import TypedDict


class BindingDifference(TypedDict):
    """An attribute of a service, or a key of the step's environment, here and there; empty where it is missing."""

    what: str
    here: str
    there: str


class BindingComparison(TypedDict):
    """One selector: `state` is binds, differs or missing; `here` and `there` are the services, empty where it matches nothing."""

    step: str
    selector: str
    state: str
    here: str
    there: str
    differences: list[BindingDifference]
    reason: str


class Portability(TypedDict):
    """Every selector of a workflow; `portable` if none of them is missing."""

    workflow: str
    portable: bool
    comparisons: list[BindingComparison]
