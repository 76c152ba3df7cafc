"""Retention of finished runs: their logs are archived in the contents, then the engine forgets the runs, finally the logs are removed.

A log is stored under a key of run and step, and then recorded. A crash in between or a concurrent sweep stores the same bytes under the
same key again. Where logs are archived, the engine keeps a run until its logs are, and drops each log that is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from functions.housekeeper.deps import Deps
from fuseml import contents, engines
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.runtime import clock
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import archive, runs

_log = logging.getLogger("fuseml.housekeeper")

# Bounds of one tick; the next one continues.
_SECONDS = 5.0
_MOST = 200
_CHUNK = 4 << 20
_DAY = 86400.0
_WEEK = 7


def archive_logs(deps: Deps, _tick: events.Event) -> None:
    """Archive the logs of finished steps. A log that the engine cannot serve now is retried; a lost one is recorded as lost."""
    if deps.contents is None:
        return
    with deps.store.read() as session:
        finished = archive.unarchived(session, _MOST)
    deadline = time.monotonic() + _SECONDS
    for row, step in finished:
        key = _archive(deps.engine, deps.contents, deps.conditions, row, step)
        if key is not None:
            with deps.store.write() as session:
                archive.record(session, step, key)
            _drop(deps.engine, row, step, key)
        if time.monotonic() > deadline:
            return


def _drop(engine: engines.Engine, row: runs.Run, step: runs.StepRun, key: str) -> None:
    """Let the engine free the space of an archived log. If this fails or this process dies before, the log goes with its run."""
    if key != archive.NOWHERE:
        try:
            engine.drop_log(identity.execution_id(row.id, step.execution), step.name)
        except errors.FusemlError as error:
            _log.warning("the engine could not drop the archived log of step %s of run %s: %s", step.name, row.name, error)


class _EngineError(Exception):
    """The engine failed to serve one log. Errors of the contents are not wrapped: they concern all logs."""

    def __init__(self, cause: errors.FusemlError) -> None:
        super().__init__(cause.message)
        self.cause = cause


def _archive(engine: engines.Engine, store: contents.Contents, conditions: Conditions, row: runs.Run, step: runs.StepRun) -> str | None:
    """Key of the archived log; None if it cannot be archived yet. Raises the errors of the contents."""
    subject = f"the archive of the log of step {step.name} of run {row.name}"
    key = f"runs/{row.id}/{step.name}.log"
    try:
        store.put(key, _blocks(engine, identity.execution_id(row.id, step.execution), step.name))
    except _EngineError as error:
        if isinstance(error.cause, errors.NotFoundError):
            # A former sweep may have stored it and died before it was recorded.
            return key if _exists(store, key) else archive.NOWHERE
        conditions.fault(_log, subject, str(error))
        return None
    conditions.well(_log, subject)
    return key


def _blocks(engine: engines.Engine, execution: str, step: str) -> Iterator[bytes]:
    """The whole log of a step. Raises _EngineError."""
    offset, complete = 0, False
    while not complete:
        try:
            chunk = engine.logs(execution, step, offset, _CHUNK)
            if not chunk.data and not chunk.complete:
                raise errors.TemporaryError("the engine has not written all of it")
        except errors.FusemlError as error:
            raise _EngineError(error) from error
        yield chunk.data
        offset, complete = chunk.next_offset, chunk.complete


def _exists(store: contents.Contents, key: str) -> bool:
    try:
        store.size(key)
    except errors.NotFoundError:
        return False
    return True


def forget_runs(deps: Deps, _tick: events.Event) -> None:
    """Have the engine forget finished runs: as soon as their logs are archived, or `engine_days` after their end.

    Where no logs are archived, they go with the run, so the engine keeps it for a week.
    """
    deadline = time.monotonic() + _SECONDS
    for row in _forgettable(deps):
        if time.monotonic() < deadline:
            _forget(deps, row)


def _forgettable(deps: Deps) -> Sequence[runs.Run]:
    if deps.engine_days is None and deps.contents is not None:
        with deps.store.read() as session:
            return archive.kept(session, clock.ago(runs.LATE_REPORTS), _MOST)
    days = _WEEK if deps.engine_days is None else deps.engine_days
    if not days:
        return []
    with deps.store.read() as session:
        expired = archive.with_engine(session, clock.ago(days * _DAY), _MOST)
        steps = runs.steps(session, [row.id for row in expired]) if deps.contents else []
    unarchived = {step.run_id for step in steps if step.archived is None and step.execution and step.state not in ("queued", "skipped")}
    return [row for row in expired if row.id not in unarchived]


def _forget(deps: Deps, row: runs.Run) -> None:
    try:
        for number in range(1, row.execution + 1):
            deps.engine.forget(identity.execution_id(row.id, number))
    except errors.PermanentError as error:
        # The others are not held up by it.
        deps.conditions.fault(_log, f"the removal of run {row.name} from the engine", error.message)
        return
    deps.conditions.well(_log, f"the removal of run {row.name} from the engine")
    with deps.store.write() as session:
        runs.get(session, row.name).forgotten = clock.now()


def remove_logs(deps: Deps, _tick: events.Event) -> None:
    """Remove the archived logs of the runs that finished `log_days` ago."""
    if deps.contents is None or not deps.log_days:
        return
    with deps.store.read() as session:
        expired = [(row, runs.steps(session, [row.id])) for row in archive.with_logs(session, clock.ago(deps.log_days * _DAY), _MOST)]
    for row, steps in expired:
        for step in steps:
            if step.archived:
                deps.contents.delete(step.archived)
        with deps.store.write() as session:
            runs.get(session, row.name).expired = clock.now()
            for step in runs.steps(session, [row.id]):
                step.archived = archive.NOWHERE
