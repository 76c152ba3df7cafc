"""The differences of two runs, by their plans and their results."""

from __future__ import annotations

from typing import Annotated

import pydantic

from functions.runs.deps import Deps
from fuseml.domain.lineage import comparison
from fuseml.runtime import operations
from fuseml.store import run_records, runs


class DiffQuery(operations.Query):
    all: Annotated[bool, pydantic.Field(description="equal facts, too")] = False


class Difference(pydantic.BaseModel):
    """A fact of both runs: `a` is that of the first, null where it has none."""

    kind: comparison.Kind
    name: str
    a: str | None
    b: str | None
    equal: bool


class RunDiff(pydantic.BaseModel):
    """The facts in which run `b` differs from run `a`. `equal`: all are equal; `same_results`: those that the runs have made."""

    a: str
    b: str
    equal: bool
    same_results: bool
    differences: list[Difference]


def between(deps: Deps, a: str, b: str, *, everything: bool = False) -> RunDiff:
    """The differences of two runs. Raises NotFoundError."""
    with deps.store.read() as session:
        first, second = (run_records.read(session, runs.get(session, name)) for name in (a, b))
    found = comparison.compare(first, second)
    unequal = [item for item in found if not item.equal]
    return RunDiff(
        a=a,
        b=b,
        equal=not unequal,
        same_results=not any(item.kind in comparison.RESULTS for item in unequal),
        differences=[
            Difference(kind=item.kind, name=item.name, a=item.a, b=item.b, equal=item.equal) for item in (found if everything else unequal)
        ],
    )
