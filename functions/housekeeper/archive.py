"""What becomes of finished runs: their logs go to the contents, then the engine forgets them, in the end the logs are removed.

A log is put whole under a key that follows from run and step, and then noted. Whoever dies in between, or does it at the same time, puts
the same bytes under the same key again. Nothing is forgotten whose log is not kept, where logs are kept at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from functions.housekeeper.deps import Deps
from fuseml import contents, engines
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.runtime import clock
from fuseml.store import archive, runs

_log = logging.getLogger("fuseml.housekeeper")

# A tick stays short, however much there is to do; the next one goes on.
_SECONDS = 5.0
_MOST = 200
_CHUNK = 4 << 20
_DAY = 86400.0


def archive_logs(deps: Deps, _tick: events.Event) -> None:
    """Keep the logs of steps that have ended. One that the engine cannot give now is tried again; one that it lost is noted as lost."""
    if deps.contents is None:
        return
    with deps.store.read() as session:
        ended = archive.unarchived(session, _MOST)
    deadline = time.monotonic() + _SECONDS
    for row, step in ended:
        place = _archive(deps.engine, deps.contents, row, step)
        if place is not None:
            with deps.store.write() as session:
                archive.record(session, step, place)
        if time.monotonic() > deadline:
            return


class _NotGivenError(Exception):
    """What the engine answers instead of a log: one step's trouble, whereas what the contents refuse is that of all."""

    def __init__(self, why: errors.FusemlError) -> None:
        super().__init__(why.message)
        self.why = why


def _archive(engine: engines.Engine, kept: contents.Contents, row: runs.Run, step: runs.StepRun) -> str | None:
    """Where the log is; None when it cannot be had yet. Raises what the contents refuse."""
    key = f"runs/{row.id}/{step.name}.log"
    try:
        kept.put(key, _blocks(engine, identity.execution_id(row.id, step.execution), step.name))
    except _NotGivenError as error:
        if isinstance(error.why, errors.NotFoundError):
            # Unless it was put before, and whoever did it died before it was noted.
            return key if _is_there(kept, key) else archive.NOWHERE
        _log.warning("the log of step %s of run %s cannot be kept yet: %s", step.name, row.name, error)
        return None
    return key


def _blocks(engine: engines.Engine, execution: str, step: str) -> Iterator[bytes]:
    """The whole log of a step. Raises _NotGivenError."""
    offset, complete = 0, False
    while not complete:
        try:
            chunk = engine.logs(execution, step, offset, _CHUNK)
            if not chunk.data and not chunk.complete:
                raise errors.TemporaryError("the engine has not written all of it")
        except errors.FusemlError as error:
            raise _NotGivenError(error) from error
        yield chunk.data
        offset, complete = chunk.next_offset, chunk.complete


def _is_there(kept: contents.Contents, key: str) -> bool:
    try:
        kept.size(key)
    except errors.NotFoundError:
        return False
    return True


def forget_runs(deps: Deps, _tick: events.Event) -> None:
    """Have the engine forget the runs that finished `engine_days` ago."""
    if not deps.engine_days:
        return
    with deps.store.read() as session:
        old = archive.with_engine(session, clock.ago(deps.engine_days * _DAY), _MOST)
        steps = runs.steps(session, [row.id for row in old]) if deps.contents else []
    not_kept = {step.run_id for step in steps if step.archived is None and step.execution and step.state not in ("queued", "skipped")}
    deadline = time.monotonic() + _SECONDS
    for row in old:
        if row.id not in not_kept and time.monotonic() < deadline:
            _forget(deps, row)


def _forget(deps: Deps, row: runs.Run) -> None:
    try:
        for number in range(1, row.execution + 1):
            deps.engine.forget(identity.execution_id(row.id, number))
    except errors.ConflictError as error:
        _log.warning("the engine cannot forget run %s: %s", row.name, error.message)
        return
    with deps.store.write() as session:
        runs.get(session, row.name).forgotten = clock.now()


def remove_logs(deps: Deps, _tick: events.Event) -> None:
    """Remove the kept logs of the runs that finished `log_days` ago."""
    if deps.contents is None or not deps.log_days:
        return
    with deps.store.read() as session:
        old = [(row, runs.steps(session, [row.id])) for row in archive.with_logs(session, clock.ago(deps.log_days * _DAY), _MOST)]
    for row, steps in old:
        for step in steps:
            if step.archived:
                deps.contents.delete(step.archived)
        with deps.store.write() as session:
            runs.get(session, row.name).expired = clock.now()
            for step in runs.steps(session, [row.id]):
                step.archived = archive.NOWHERE
