"""The artifacts that the plans of runs name, and the anonymous artifacts that runs make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlmodel
from sqlalchemy import exists
from sqlmodel import Session, col, select

from fuseml.domain import plans
from fuseml.domain.artifacts import retention
from fuseml.domain.plans import locks
from fuseml.store.tables.artifact_rows import Artifact, ArtifactEdge
from fuseml.store.tables.retention_rows import AnonymousArtifact, RunLock
from fuseml.store.tables.run_rows import Run, StepRun

_ACTIVE = ("queued", "running", "waiting")
_AT_ONCE = 500


def note(session: Session, run_id: str, plan: plans.Plan) -> None:
    """Record the lock of a new run, and the anonymous artifacts that it may make."""
    session.add_all(RunLock(address=address, run_id=run_id) for address in locks.named(plan))
    session.add_all(
        AnonymousArtifact(run_id=run_id, step=step, output=collect.output, project=plan.project, kind=collect.kind)
        for step, collect in locks.anonymous(plan)
    )


class Unfinished:
    """The unfinished runs: the artifacts that they name, and those that their steps have written."""

    def __init__(self, session: Session) -> None:
        self.users: dict[str, set[str]] = {}
        active = col(Run.state).in_(_ACTIVE)
        named = select(RunLock.address, Run.name).join(Run, col(Run.id) == RunLock.run_id).where(active)
        for address, run in session.exec(named):
            self._use(address, run)
        # Planned by the previous release, or not planned: nothing is recorded for them.
        unlocked = select(Run).where(active, ~exists().where(col(RunLock.run_id) == Run.id))
        for row in session.exec(unlocked):
            for address in locks.named(plans.Plan.model_validate(row.plan)) if row.plan else ():
                self._use(address, row.name)
        wanted: Any = select(Run.project, Run.name, Run.inputs, Run.trigger).where(active)
        for project, run, inputs, trigger in session.exec(wanted):
            self._use_texts(project, run, [*inputs.values(), (trigger or {}).get("artifact")])
        written = select(Run.project, Run.name, StepRun.outputs).join(Run, col(Run.id) == StepRun.run_id).where(active)
        for project, run, outputs in session.exec(written):
            self._use_texts(project, run, list((outputs or {}).values()))

    def below(self, prefix: str) -> list[str]:
        """The unfinished runs that use an artifact whose address begins so."""
        return sorted({run for address, runs in self.users.items() if address.startswith(prefix) for run in runs})

    def _use_texts(self, project: str, run: str, texts: Sequence[object]) -> None:
        for text in texts:
            for address in locks.of_text(project, text) if isinstance(text, str) else ():
                self._use(address, run)

    def _use(self, address: str, run: str) -> None:
        self.users.setdefault(address, set()).add(run)


def locks_of(session: Session, addresses: Sequence[str]) -> dict[str, set[retention.Lock]]:
    """Address -> the locks that name it, each with an artifact that its run has made; by the plans and the lineage."""
    found: dict[str, set[retention.Lock]] = {address: set() for address in addresses}
    users: dict[str, set[str]] = {}
    for start in range(0, len(addresses), _AT_ONCE):
        part = addresses[start : start + _AT_ONCE]
        named = select(RunLock.address, Run.name).join(Run, col(Run.id) == RunLock.run_id).where(col(RunLock.address).in_(part))
        edges = select(ArtifactEdge.source, ArtifactEdge.run, ArtifactEdge.target).where(col(ArtifactEdge.source).in_(part))
        for address, run in session.exec(named):
            users.setdefault(run, set()).add(address)
        for source, run, target in session.exec(edges):
            found[source].add(retention.Lock(run, target))
            if run:
                users.setdefault(run, set()).add(source)
    for run, product in _products(session, list(users)):
        for address in users[run]:
            if address != product:
                found[address].add(retention.Lock(run, product))
    return found


def _products(session: Session, runs: Sequence[str]) -> Collection[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for start in range(0, len(runs), _AT_ONCE):
        part = runs[start : start + _AT_ONCE]
        made: Any = select(Artifact.run, Artifact.address).where(col(Artifact.run).in_(part))
        found.update(session.exec(made).all())
        found.update(session.exec(select(ArtifactEdge.run, ArtifactEdge.target).where(col(ArtifactEdge.run).in_(part))).all())
    return found


def ended_anonymous(
    session: Session, project: str, kind: str, before: str, now: str, limit: int
) -> Sequence[tuple[AnonymousArtifact, Run]]:
    """The anonymous artifacts of a kind whose runs have finished before a moment, and that are due."""
    table = AnonymousArtifact
    query = select(table, Run).join(Run, col(Run.id) == table.run_id)
    query = query.where(table.project == project, table.kind == kind, table.due <= now, col(Run.finished) < before)
    return session.exec(query.order_by(col(table.due), col(table.run_id)).limit(limit)).all()


def postpone_anonymous(session: Session, row: AnonymousArtifact, due: str) -> None:
    """Try the deletion of its contents again at a moment."""
    stored = session.get(AnonymousArtifact, (row.run_id, row.step, row.output))
    if stored is not None:
        stored.due = due
        session.add(stored)


def forget_anonymous(session: Session, row: AnonymousArtifact) -> None:
    """The contents of an anonymous artifact are deleted."""
    table = AnonymousArtifact
    session.exec(
        sqlmodel.delete(table).where(col(table.run_id) == row.run_id, col(table.step) == row.step, col(table.output) == row.output)
    )
