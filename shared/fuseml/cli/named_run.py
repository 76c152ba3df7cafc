"""The run that a command names. Where a run is read, its name may be left out: the newest run of the current project is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import completion
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

RunName = Annotated[str, typer.Argument(help="Name of the run.", metavar="RUN", show_default=False, autocompletion=completion.runs)]
OptionalRunName = Annotated[
    str | None,
    typer.Argument(
        help="Name of the run; the newest one of the project by default.", metavar="RUN", show_default=False, autocompletion=completion.runs
    ),
]
Last = Annotated[int, typer.Option("--last", min=1, metavar="N", help="Without RUN, the N-th newest run.")]


def chosen(client: Client, run: str | None, project: str, last: int = 1, *, state: str = "") -> str:
    """The name of the run: the given one, or that of the newest run of the project (of all without one), in that state if one is given.

    Raises NotFoundError if there are fewer than `last` runs, InvalidError for a name beside `last`.
    """
    if run and last > 1:
        raise errors.InvalidError(f"--last {last} counts from the newest run, and {run} is named; give one of both")
    return run or newest(client, project, last, state=state)["name"]


def newest(client: Client, project: str, last: int = 1, *, state: str = "") -> shapes.Run:
    """The newest run of the project (of all without one), or the one that is `last` by age. Raises NotFoundError if there is none."""
    found = list(client.runs.list(project=project, state=state, limit=last))
    if len(found) < last:
        which = f"{state} run" if state else "run"
        where = f" in project {project}" if project else ""
        count = f"are only {len(found)} {which}s" if len(found) > 1 else f"is only one {which}" if found else f"is no {which}"
        raise errors.NotFoundError(f"there {count}{where}; `fuseml run list` shows the runs")
    return found[-1]
