"""What the results of a code version are read from: the runs on it, the artifacts of runs, and the runs that took artifacts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain.lineage import results
from fuseml.store import paging
from fuseml.store.tables.artifact_rows import Artifact, ArtifactEdge
from fuseml.store.tables.run_rows import Run, StepRun

_AT_ONCE = 500
# In the inputs of a run that was given an artifact other than code, as text.
_MENTIONS = ("models:/", "model://", "dataset://", "runnable://", "image://")

T = TypeVar("T")


def commits(session: Session, project: str, codeset: str, prefix: str) -> list[str]:
    """The commits of the codeset that begin with `prefix` and are recorded or have runs: none, one, or two of several."""
    recorded = select(Artifact.version).where(
        Artifact.kind == "code", Artifact.project == project, Artifact.name == codeset, col(Artifact.version).startswith(prefix)
    )
    executed = select(Run.commit).where(Run.project == project, Run.codeset == codeset, col(Run.commit).startswith(prefix))
    found = {*session.exec(recorded.limit(2)), *session.exec(executed.distinct().limit(2))}
    return sorted(commit for commit in found if commit)


def of_code(session: Session, project: str, versions: Collection[tuple[str, str]], most: int) -> list[str]:
    """The names of the runs on these versions (codeset, commit), oldest first, at most `most`."""
    return list(session.exec(select(Run.name).where(*_on(project, versions)).order_by(col(Run.sequence)).limit(most)))


def page_of_code(session: Session, page: paging.Page, project: str, versions: Collection[tuple[str, str]]) -> paging.Slice[Run]:
    """A page of the runs on these versions (codeset, commit), oldest first."""
    return paging.fetch(session, select(Run).where(*_on(project, versions)), page, Run.sequence)


def page_of(session: Session, page: paging.Page, project: str, names: Collection[str]) -> paging.Slice[Run]:
    """A page of the runs of the project among these names, oldest first."""
    return paging.fetch(session, select(Run).where(Run.project == project, col(Run.name).in_(names)), page, Run.sequence)


def _on(project: str, versions: Collection[tuple[str, str]]) -> list[Any]:
    # The index of commits narrows first; a commit may be in several codesets.
    return [
        Run.project == project,
        col(Run.commit).in_([commit for _, commit in versions]),
        sqlalchemy.tuple_(col(Run.codeset), col(Run.commit)).in_(versions),
    ]


def takers(session: Session, project: str) -> Iterator[results.Taker]:
    """The runs of the project that were given artifacts other than code by their inputs or their trigger, oldest first."""
    given = sqlalchemy.cast(col(Run.inputs), sqlalchemy.Text)
    by_artifact = sqlalchemy.cast(col(Run.trigger), sqlalchemy.Text).contains('"artifact"')
    query = select(Run.name, Run.inputs, Run.trigger).where(
        Run.project == project, sqlalchemy.or_(by_artifact, *(given.contains(mention) for mention in _MENTIONS))
    )
    for name, inputs, trigger in session.exec(query.order_by(col(Run.sequence))):
        yield results.Taker(name, results.given(project, inputs.values(), trigger.get("artifact")))


def readers(session: Session, addresses: Sequence[str]) -> list[str]:
    """The names of the runs that made artifacts from those at `addresses`."""
    found: dict[str, None] = {}
    for some in _parts(addresses):
        query = select(ArtifactEdge.run).where(col(ArtifactEdge.source).in_(some)).distinct()
        found |= dict.fromkeys(session.exec(query.order_by(col(ArtifactEdge.run))))
    return list(found)


def made(session: Session, project: str, names: Sequence[str]) -> dict[str, set[str]]:
    """Run name -> the addresses of the artifacts that the run made, or repeated from the cache."""
    found: dict[str, set[str]] = {}
    for some in _parts(names):
        produced = select(Artifact.run, Artifact.address).where(col(Artifact.run).in_(some), Artifact.kind != "code")
        linked = select(ArtifactEdge.run, ArtifactEdge.target).where(col(ArtifactEdge.run).in_(some)).distinct()
        for run, address in (*session.exec(produced), *session.exec(linked)):
            found.setdefault(run or "", set()).add(address)
        written = select(Run.name, StepRun.outputs).where(col(Run.name).in_(some), StepRun.run_id == Run.id)
        for run, texts in session.exec(written):
            found.setdefault(run, set()).update(results.made(project, texts.values()))
    return found


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
