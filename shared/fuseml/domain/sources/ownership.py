"""Ownership of items: a source changes and deletes only what it has made, or was explicitly allowed to adopt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml.domain.sources import files

Key = tuple[files.Kind, str]
"""The kind and the name of an item."""

Action = Literal["put", "adopt", "delete", "release", "forget"]
"""`put`: make or change it. `adopt`: take over one that was made by hand, and change it. `delete` what the source has made. `release`: leave what it
has adopted as it is. `forget`: it is gone already, or is no source's.
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """The source that an item belongs to, and whether the source has adopted it."""

    source: str
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to an item."""

    key: Key
    action: Action


@dataclass(frozen=True, slots=True)
class Decision:
    """The steps in the order of their execution, and the reasons against all of them by item."""

    steps: Sequence[Step]
    refusals: Mapping[Key, str]


def decide(
    source: str,
    declared: Collection[Key],
    present: Collection[Key],
    owners: Mapping[Key, Owner],
    *,
    reserved: Collection[Key] = (),
    adopt: bool = False,
) -> Decision:
    """The way from what is present to what the source declares.

    `owners` are those of all declared items, and of all items of the source. `reserved` items are no source's. With a refusal nothing may be done.
    """
    refusals = {key: reason for key in declared if (reason := _reason(source, key, present, owners, reserved, adopt=adopt))}
    steps = [*_puts(source, declared, present, owners), *_removals(source, declared, present, owners, reserved)]
    return Decision([] if refusals else steps, refusals)


def _reason(source: str, key: Key, present: Collection[Key], owners: Mapping[Key, Owner], reserved: Collection[Key], *, adopt: bool) -> str:
    kind, name = key
    if key in reserved:
        return f"the {kind} {name!r} belongs to FuseML itself, and no source may change it"
    owner = owners.get(key)
    if owner is not None:
        return "" if owner.source == source else f"the {kind} {name!r} belongs to the source {owner.source!r}; remove it from one of both"
    if key in present and not adopt:
        return f"the {kind} {name!r} exists, and the source has not made it; `fuseml source sync {source} --adopt` lets the source take it over"
    return ""


def _puts(source: str, declared: Collection[Key], present: Collection[Key], owners: Mapping[Key, Owner]) -> Iterator[Step]:
    for key in sorted(declared, key=_order):
        yield Step(key, "adopt" if key in present and key not in owners else "put")


def _removals(
    source: str, declared: Collection[Key], present: Collection[Key], owners: Mapping[Key, Owner], reserved: Collection[Key]
) -> Iterator[Step]:
    # The last kinds first: workflows need their assignments no more, and records no workflows.
    for key in sorted(owners, key=_order, reverse=True):
        owner = owners[key]
        if owner.source == source and key not in declared:
            yield Step(key, "forget" if key not in present or key in reserved else "release" if owner.adopted else "delete")


def _order(key: Key) -> tuple[int, str]:
    return files.KINDS.index(key[0]), key[1]
