"""What travels about the impact of a change of the registry, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import TypedDict


class Change(TypedDict, total=False):
    """`effect` is appears, vanishes or changes; of a secret the values are `<hidden>`. A field has a path, an environment's key a key."""

    path: str
    key: str
    effect: str
    secret: bool
    before: str
    after: str


class BindingSummary(TypedDict, total=False):
    extension_id: str
    service_id: str
    url: str
    credentials_id: str


class Effect(TypedDict, total=False):
    """What happens to a selector; `effect` is unchanged, changes, rebinds, breaks or resolves."""

    workflow: str
    revision: int
    assigned: bool
    project: str
    user: str
    step: str
    selector: str
    effect: str
    before: BindingSummary | None
    after: BindingSummary | None
    environment: list[Change]
    reason: str
    sentence: str


class Impact(TypedDict, total=False):
    """What a change of a record would do; `change` is registers, updates, removes or none."""

    extension_id: str
    change: str
    revision: int
    changes: list[Change]
    effects: list[Effect]
    summary: str
