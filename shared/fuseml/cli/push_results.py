"""What a push or an assignment has started: the runs, or the reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuseml.cli import progress, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

# Seconds for which a command that does not wait for runs asks for those that it has started.
_BRIEF = 5.0


def show_started(client: Client, project: str, codeset: str, commit: str) -> None:
    """Print the runs that the push has started. Without any, and when the server has not decided soon, print the reason on standard error."""
    try:
        for run in runs_of_push(client, project, codeset, commit, _BRIEF):
            terminal.echo(progress.sentence(run))
    except (errors.NotFoundError, errors.TemporaryError, errors.ForbiddenError) as error:
        # The push itself has succeeded.
        terminal.echo(error.message[:1].upper() + error.message[1:], err=True)


def assign(client: Client, workflow: str, project: str, codeset: str, *, wait: bool) -> None:
    """Assign the workflow to the codeset, and print the run that this starts; with `wait` follow it."""

    def latest() -> list[shapes.Run]:
        return list(client.runs.list(workflow=workflow, project=project, codeset=codeset, limit=1))

    old = [run["name"] for run in latest()]
    starts = wait or _starts_run(client, workflow, project, codeset)
    client.workflows.assign(workflow, project, codeset)
    terminal.echo(f'Workflow "{workflow}" assigned to codeset "{project}/{codeset}".')
    if not starts:
        return
    try:
        started = progress.await_runs(
            lambda: [run for run in latest() if run["name"] not in old],
            "the assignment started no run: it existed before, or the codeset's main branch has no commit",
            progress.RUNS_APPEAR if wait else _BRIEF,
        )
    except (errors.NotFoundError, errors.TemporaryError) as error:
        if wait:
            raise
        # The assignment itself has succeeded.
        terminal.echo(error.message[:1].upper() + error.message[1:], err=True)
        return
    if wait:
        progress.to_end(client, started)
    else:
        terminal.echo(progress.sentence(started[0]))


def _starts_run(client: Client, workflow: str, project: str, codeset: str) -> bool:
    """Whether an assignment starts a run at once: neither a repeated one, nor that of a workflow with other triggers."""
    for assignment in client.workflows.assignments(workflow):
        if any((item["project"], item["name"]) == (project, codeset) for item in assignment["codesets"]):
            return False
    on = client.workflows.get(workflow).get("on") or {}
    return not (on.get("schedule") or on.get("patterns"))


def runs_of_push(client: Client, project: str, codeset: str, commit: str, patience: float | None = None) -> list[shapes.Run]:
    """The runs that the push of a commit has started, see `pushes.started`. Reasons appear on standard error."""
    from fuseml.client import pushes

    return pushes.started(client, project, codeset, commit, patience=patience, report=lambda text: terminal.echo(text, err=True))
