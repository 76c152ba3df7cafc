"""The lineage of an artifact as a tree for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import shapes
    from fuseml.client.lineage_branches import Branch


def tree(lineage: shapes.Lineage) -> Tree:
    """A tree below the artifact. On a narrow terminal lines break; nothing of an address is lost."""
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import lineage_branches

    gone = any(node["address"] == lineage["address"] and not node["recorded"] for node in lineage["nodes"])
    root = Tree(_line(lineage["address"], ["deleted"] if gone else []), guide_style="dim")
    for title, branches in lineage_branches.branches(lineage).items():
        _grow(root.add(Text(title, style="dim")), branches)
    return root


def _grow(tree: Tree, branches: Sequence[Branch]) -> None:
    for branch in branches:
        _grow(tree.add(_line(branch.address, branch.notes)), branch.branches)


def _line(address: str, notes: Sequence[str]) -> Text:
    from rich.text import Text

    line = Text(address, overflow="fold")
    line.append("".join(f"  {note}" for note in notes), style="dim")
    return line
