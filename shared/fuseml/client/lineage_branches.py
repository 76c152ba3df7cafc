"""The lineage of an artifact as branches: its sources and its products, each with the step that made it."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuseml.client import shapes

_TITLES = (("Sources", "target", "source"), ("Products", "source", "target"))


@dataclass(frozen=True, slots=True)
class Branch:
    """An address with its notes (the run and the step that made it, `deleted`, `shown above`), and what is beyond it."""

    address: str
    notes: Sequence[str]
    branches: Sequence[Branch]


def branches(lineage: shapes.Lineage) -> dict[str, list[Branch]]:
    """The branches of the artifact by title, without empty ones. An artifact that several ways lead to has its branches once."""
    gone = {node["address"] for node in lineage["nodes"] if not node["recorded"]}
    found: dict[str, list[Branch]] = {}
    for title, own, other in _TITLES:
        edges = _by_end(lineage, own, other, lineage["address"])
        if edges[lineage["address"]]:
            found[title] = _grown(lineage["address"], edges, other, gone, {lineage["address"]})
    return found


def _by_end(lineage: shapes.Lineage, own: str, other: str, start: str) -> Mapping[str, list[shapes.Edge]]:
    """The edges by the address at their end `own`, as far as `start` reaches them."""
    edges: dict[str, list[shapes.Edge]] = collections.defaultdict(list)
    for edge in lineage["edges"]:
        edges[str(edge[own])].append(edge)  # type: ignore[literal-required]
    reached, frontier = {start}, [start]
    while frontier:
        ends = {str(edge[other]) for address in frontier for edge in edges[address]}  # type: ignore[literal-required]
        frontier = sorted(ends - reached)
        reached.update(frontier)
    return collections.defaultdict(list, {address: edges[address] for address in reached})


def _grown(address: str, edges: Mapping[str, list[shapes.Edge]], other: str, gone: set[str], shown: set[str]) -> list[Branch]:
    grown: list[Branch] = []
    for edge in edges[address]:
        end = str(edge[other])  # type: ignore[literal-required]
        maker = "/".join(part for part in (edge.get("run"), edge.get("step")) if part)
        again = end in shown and bool(edges[end])
        notes = [f"by {maker}" if maker else "", "deleted" if end in gone else "", "shown above" if again else ""]
        below: list[Branch] = []
        if end not in shown:
            shown.add(end)
            below = _grown(end, edges, other, gone, shown)
        grown.append(Branch(end, [note for note in notes if note], below))
    return grown
