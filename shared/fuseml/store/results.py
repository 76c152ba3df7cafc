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


def of_code(session: Session, project: str, versions: Collection[tuple[str, str]], most: int) -> list[results.Taker]:
    """The runs on these versions (codeset, commit), oldest first, at most `most`."""
    return _takers(session, project, _TAKER.where(*_on(project, versions)).order_by(col(Run.sequence)).limit(most))


def page_of_code(session: Session, page: paging.Page, project: str, versions: Collection[tuple[str, str]]) -> paging.Slice[Run]:
    """A page of the runs on these versions (codeset, commit), oldest first."""
    return paging.fetch(session, select(Run).where(*_on(project, versions)), page, Run.sequence)


def page_of(session: Session, page: paging.Page, names: Collection[str]) -> paging.Slice[Run]:
    """A page of the runs of these names, oldest first."""
    return paging.fetch(session, select(Run).where(col(Run.name).in_(names)), page, Run.sequence)


def _on(project: str, versions: Collection[tuple[str, str]]) -> list[Any]:
    # A condition on the project alone would make SQLite read all runs of the project, instead of those of the commits by their index.
    place = sqlalchemy.tuple_(col(Run.project), col(Run.codeset), col(Run.commit))
    return [
        col(Run.commit).in_([commit for _, commit in versions]),
        place.in_([(project, codeset, commit) for codeset, commit in versions]),
    ]


def given_by_hand(session: Session, project: str) -> list[results.Taker]:
    """The runs of the project that no run has caused and that were given artifacts other than code, oldest first."""
    given = sqlalchemy.cast(col(Run.inputs), sqlalchemy.Text)
    by_artifact = sqlalchemy.cast(col(Run.trigger), sqlalchemy.Text).contains('"artifact"')
    mentioned = sqlalchemy.or_(by_artifact, *(given.contains(mention) for mention in _MENTIONS))
    query = _TAKER.where(Run.project == project, col(Run.caused_by).is_(None), mentioned)
    return _takers(session, project, query.order_by(col(Run.sequence)))


def takers_after(session: Session, project: str, runs: Sequence[str], addresses: Sequence[str]) -> list[results.Taker]:
    """The runs that `runs`, or the recorded producers of the artifacts at `addresses`, have caused, and those that made something of these
    artifacts, each once. Not all of them were given one of the artifacts.
    """
    causes, read = dict.fromkeys(runs), dict[str, set[str]]()
    for some in _parts(addresses):
        causes |= dict.fromkeys(run for run in session.exec(select(Artifact.run).where(col(Artifact.address).in_(some))) if run)
        for run, source in session.exec(select(ArtifactEdge.run, ArtifactEdge.source).where(col(ArtifactEdge.source).in_(some)).distinct()):
            read.setdefault(run, set()).add(source)
    found: dict[str, results.Taker] = {}
    for column, names in ((col(Run.caused_by), list(causes)), (col(Run.name), list(read))):
        for few in _parts(names):
            taken = _takers(session, project, _TAKER.where(column.in_(few)).order_by(col(Run.sequence)))
            found |= {taker.name: taker for taker in taken}
    return [results.Taker(taker.name, taker.given | read.get(taker.name, frozenset())) for taker in found.values()]


_TAKER = select(Run.project, Run.name, Run.inputs, Run.trigger)


def _takers(session: Session, project: str, query: Any) -> list[results.Taker]:
    return [
        results.Taker(name, results.given(project, inputs.values(), trigger.get("artifact")))
        for owner, name, inputs, trigger in session.exec(query)
        if owner == project
    ]


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
