"""The lineage of an artifact as a tree: its sources and its products, each with the step that made it."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import shapes

_TITLES = (("Sources", "target", "source"), ("Products", "source", "target"))


def tree(lineage: shapes.Lineage) -> Tree:
    """A tree below the artifact. An artifact that several ways lead to has its branches once; a line never wraps."""
    from rich.text import Text
    from rich.tree import Tree

    gone = {node["address"] for node in lineage["nodes"] if not node["recorded"]}
    root = Tree(_line(lineage["address"], {}, gone), guide_style="dim")
    for title, own, other in _TITLES:
        edges = _by_end(lineage, own, other, lineage["address"])
        if edges[lineage["address"]]:
            _grow(root.add(Text(title, style="dim")), lineage["address"], edges, other, gone, {lineage["address"]})
    return root


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


def _grow(branch: Tree, address: str, edges: Mapping[str, list[shapes.Edge]], other: str, gone: set[str], shown: set[str]) -> None:
    for edge in edges[address]:
        end = str(edge[other])  # type: ignore[literal-required]
        again = end in shown and bool(edges[end])
        below = branch.add(_line(end, edge, gone, again=again))
        if end not in shown:
            shown.add(end)
            _grow(below, end, edges, other, gone, shown)


def _line(address: str, edge: shapes.Edge | Mapping[str, str], gone: set[str], *, again: bool = False) -> Text:
    from rich.text import Text

    line = Text(address, overflow="ellipsis", no_wrap=True)
    maker = "/".join(part for part in (edge.get("run"), edge.get("step")) if part)
    notes = [f"by {maker}" if maker else "", "deleted" if address in gone else "", "shown above" if again else ""]
    line.append("".join(f"  {note}" for note in notes if note), style="dim")
    return line
