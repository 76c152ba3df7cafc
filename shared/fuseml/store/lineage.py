"""Lineage: edges between artifacts, read as neighbourhoods of bounded depth and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session, col, select

from fuseml.store.tables.artifact_rows import ArtifactEdge

Direction = Literal["up", "down", "both"]

_AT_ONCE = 500
"""Addresses of one query."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Edges near an artifact, nearest first. `truncated`: there are more at this depth than the limit."""

    edges: Sequence[ArtifactEdge]
    truncated: bool


def link(session: Session, source: str, target: str, run: str, step: str | None = None) -> None:
    """Store an edge: `step` of `run` produced `target` from `source`. A known one gets the step that it lacks."""
    edge = session.get(ArtifactEdge, (source, target, run)) or ArtifactEdge(source=source, target=target, run=run)
    edge.step = edge.step or step
    session.add(edge)


def stated(session: Session, target: str, kind: str) -> list[str]:
    """The sources of a kind of an artifact that no run has made, by address."""
    query = select(ArtifactEdge.source).where(ArtifactEdge.target == target, ArtifactEdge.run == "")
    return list(session.exec(query.where(col(ArtifactEdge.source).startswith(f"{kind}://")).order_by(col(ArtifactEdge.source))))


def of_run(session: Session, run: str) -> Sequence[ArtifactEdge]:
    """The edges that a run has made, by target and source."""
    query = select(ArtifactEdge).where(ArtifactEdge.run == run)
    return session.exec(query.order_by(col(ArtifactEdge.target), col(ArtifactEdge.source))).all()


def neighbourhood(session: Session, address: str, direction: Direction, depth: int, most: int) -> Neighbourhood:
    """The edges within `depth` steps: `up` to what the artifact was made from, `down` to what was made from it. At most `most` edges.

    Reads one step after the other, so that cycles end and only edges near the artifact are read.
    """
    found: dict[tuple[str, str, str], ArtifactEdge] = {}
    walks = [_Walk(address, way) for way in ("up", "down") if direction in (way, "both")]
    for _ in range(depth):
        for walk in walks:
            # One more than fits shows that there are more.
            for edge in walk.step(session, most + 1 - len(found)):
                found.setdefault((edge.source, edge.target, edge.run), edge)
            if len(found) > most:
                return Neighbourhood(list(found.values())[:most], truncated=True)
    return Neighbourhood(list(found.values()), truncated=False)


class _Walk:
    """One direction: the addresses that the next step starts from, and those that were reached."""

    def __init__(self, address: str, direction: str) -> None:
        own, other = (ArtifactEdge.target, "source") if direction == "up" else (ArtifactEdge.source, "target")
        self._column, self._other = col(own), other
        self._frontier, self._reached = [address], {address}

    def step(self, session: Session, most: int) -> Iterator[ArtifactEdge]:
        """The next edges, at most `most`."""
        table, frontier, left = ArtifactEdge, self._frontier, most
        self._frontier = []
        for start in range(0, len(frontier), _AT_ONCE):
            query = select(table).where(self._column.in_(frontier[start : start + _AT_ONCE]))
            rows = session.exec(query.order_by(col(table.source), col(table.target), col(table.run)).limit(left)).all()
            left -= len(rows)
            for edge in rows:
                end = getattr(edge, self._other)
                if end not in self._reached:
                    self._reached.add(end)
                    self._frontier.append(end)
                yield edge
            if left <= 0:
                return
