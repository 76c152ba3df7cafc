"""The results of code versions: the runs on them, and in turn the runs on the artifacts that those have made."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated

import pydantic
import sqlmodel

from functions.runs import views
from functions.runs.deps import Deps
from fuseml.domain import artifact, errors, plans
from fuseml.domain.lineage import results as rules
from fuseml.domain.runs import blame
from fuseml.runtime import http, operations
from fuseml.store import codesets, paging, results, runs

MOST_RUNS = 2000
"""Runs of one recursive answer."""


class ResultQuery(operations.PageQuery):
    project: Annotated[str | None, pydantic.Field(description="required without `code`")] = None
    codeset: Annotated[str | None, pydantic.Field(description="without `code`: only the newest version of this codeset")] = None
    code: Annotated[
        str | None,
        pydantic.Field(
            description="code://PROJECT/CODESET/COMMIT, at least 7 digits of the commit; the newest version of each codeset by default"
        ),
    ] = None
    recursive: Annotated[bool, pydantic.Field(description="the runs that took what these made, too")] = False


class ResultInput(pydantic.BaseModel):
    """An input. `address` is that of the artifact that it names, else null. `default`: the run was not given it."""

    name: str
    value: str
    address: str | None
    default: bool


class ResultOutput(pydantic.BaseModel):
    """An output of the workflow, or an artifact that the run made beside them: then `name` is its kind."""

    name: str
    value: str
    address: str | None


class RunResult(pydantic.BaseModel):
    """A run with what it took and what it made. `number` counts the runs of the workflow; `caused_by` is the run whose artifact started it."""

    run: str
    workflow: str
    number: int
    state: str
    cause: str | None
    caused_by: str | None
    created: str
    finished: str | None
    inputs: list[ResultInput]
    outputs: list[ResultOutput]
    bindings: list[views.Binding]


def page(deps: Deps, query: ResultQuery) -> http.ListPage[RunResult]:
    """A page of the results, oldest run first.

    Raises NotFoundError for the project, codeset or code version, ConflictError for an ambiguous commit and for more than MOST_RUNS runs,
    InvalidError.
    """
    wanted = paging.Page(query.limit, query.cursor)
    with deps.store.read() as session:
        project, versions = _versions(session, query)
        if query.recursive:
            slice_ = results.page_of(session, wanted, _closure(session, project, versions))
        else:
            slice_ = results.page_of_code(session, wanted, project, list(versions.items()))
        made = results.made(session, project, [row.name for row in slice_.rows])
        steps = itertools.groupby(runs.steps(session, [row.id for row in slice_.rows]), key=lambda step: step.run_id)
        by_run = {run_id: list(group) for run_id, group in steps}
        items = [_result(row, made.get(row.name, set()), by_run.get(row.id, [])) for row in slice_.rows]
    return http.ListPage(items, slice_.next_cursor)


def _versions(session: sqlmodel.Session, query: ResultQuery) -> tuple[str, Mapping[str, str]]:
    """The project, and codeset -> commit."""
    if not query.code:
        if not query.project:
            raise errors.InvalidError("name the project, or a code version by `code`")
        codesets.project(session, query.project)
        if query.codeset:
            codesets.codeset(session, query.project, query.codeset)
        return query.project, codesets.current_commits(session, query.project, query.codeset)
    address = rules.code_version(query.code)
    if query.project not in (None, "", address.project) or query.codeset not in (None, "", address.name):
        raise errors.InvalidError(f"{query.code} is not of {'/'.join(filter(None, (query.project, query.codeset)))}; leave one of them out")
    return address.project, {address.name: _commit(session, address)}


def _commit(session: sqlmodel.Session, address: artifact.Address) -> str:
    found = results.commits(session, address.project, address.name, address.version)
    if not found:
        raise errors.NotFoundError(f"there is no codeset version {address}; `fuseml artifact list` shows those that exist")
    if len(found) > 1:
        raise errors.ConflictError(f"{address} is the prefix of several commits: {', '.join(found)}")
    return found[0]


def _closure(session: sqlmodel.Session, project: str, versions: Mapping[str, str]) -> list[str]:
    """The names of the runs on the versions, and of those that took what they made, directly or through other runs."""
    frontier = results.of_code(session, project, list(versions.items()), MOST_RUNS + 1)
    by_hand: Sequence[rules.Taker] | None = None
    found: set[str] = set()
    followed: set[str] = set()
    while frontier:
        names = [taker.name for taker in frontier]
        found |= {*names}
        if len(found) > MOST_RUNS:
            raise errors.ConflictError(f"these are more than {MOST_RUNS} runs; name one codeset, or leave `recursive` out")
        made = results.made(session, project, names)
        addresses = {address for taker in frontier for address in made.get(taker.name, set()) - taker.given} - followed
        if not addresses:
            break
        followed |= addresses
        by_hand = results.given_by_hand(session, project) if by_hand is None else by_hand
        after = results.takers_after(session, project, names, sorted(addresses))
        frontier = rules.next_runs([*after, *by_hand], addresses, found)
    return sorted(found)


def _result(row: runs.Run, made: set[str], steps: Sequence[runs.StepRun]) -> RunResult:
    plan = plans.Plan.model_validate(row.plan) if row.plan else None
    given = rules.inputs(row.project, row.inputs, plan.inputs if plan else {})
    # What a run passes on, it has not made.
    written = rules.outputs(row.project, row.outputs, made - {item.address for item in given})
    return RunResult(
        run=row.name,
        workflow=row.workflow,
        number=int(row.name.rpartition("-")[2]),
        state=row.state,
        cause=blame(row.cause, {step.name: runs.progress(step) for step in steps}),
        caused_by=row.caused_by,
        created=row.created,
        finished=row.finished,
        inputs=[ResultInput(name=item.name, value=item.value, address=item.address or None, default=item.default) for item in given],
        outputs=[ResultOutput(name=item.name, value=item.value, address=item.address or None) for item in written],
        bindings=views.bindings_of(plan) if plan else [],
    )
