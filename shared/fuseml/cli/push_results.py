"""What a push or an assignment has started: the runs, or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fuseml.cli import progress, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import event_shapes, shapes
    from fuseml.client.api import Client

# Seconds for which an unreachable server is asked again; a restart takes less.
_UNREACHABLE = 30.0
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
    """The runs that the push of a commit has started, as soon as the server has decided about every workflow.

    Raises NotFoundError with the reason when it started none, when the server has not seen the push after 15 seconds, and when it has not
    decided within `patience` seconds. Retries for half a minute while the server is unreachable.
    """
    begun = last_seen = time.monotonic()
    shown = ""
    while True:
        try:
            # The decisions are read before the runs: those of all decisions that were made exist.
            outcomes = _outcomes(client, commit)
            if outcomes and not any(outcome["state"] == "pending" for outcome in outcomes):
                return _started(client, project, codeset, commit, outcomes)
        except errors.TemporaryError:
            if time.monotonic() - last_seen > (_UNREACHABLE if patience is None else patience):
                raise
        else:
            last_seen = time.monotonic()
            if patience is not None and last_seen - begun > patience:
                raise errors.NotFoundError(f"the server has not decided on the push yet; `fuseml why {commit[:12]}` shows its runs")
            if last_seen - begun > progress.RUNS_APPEAR:
                if not outcomes:
                    raise errors.NotFoundError(f"the server has not seen the push yet; `fuseml why {commit[:12]}` shows its state")
                shown = _show_reasons(shown, "The push is not decided on yet", outcomes, "pending")
        time.sleep(0.3)


def _outcomes(client: Client, commit: str) -> list[event_shapes.Outcome]:
    """The outcomes of the events of the commit; refused deliveries of webhooks are none of them."""
    stories = client.events.why(commit)["stories"]
    return [outcome for story in stories if any(link["kind"] == "event" for link in story["chain"]) for outcome in story["outcomes"]]


def _started(client: Client, project: str, codeset: str, commit: str, outcomes: Sequence[event_shapes.Outcome]) -> list[shapes.Run]:
    runs = {run["name"]: run for run in client.runs.list(project=project, codeset=codeset, commit=commit)}
    # Those of what the commit brought beside its code.
    runs |= {name: client.runs.get(name) for outcome in outcomes if (name := outcome.get("run")) and name not in runs}
    if not runs:
        reasons = "; ".join(dict.fromkeys(outcome["reason"] for outcome in outcomes))
        assign = f"`fuseml workflow assign NAME -p {project} -c {codeset}` assigns a workflow"
        raise errors.NotFoundError(f"the push started no run: {reasons}; {assign}")
    _show_reasons("", "The push has started less than it should", outcomes, "dead")
    return list(runs.values())


def _show_reasons(shown: str, title: str, outcomes: Sequence[event_shapes.Outcome], state: str) -> str:
    """Print the reasons of the outcomes in that state on standard error, unless they are those `shown` before. Returns them."""
    reasons = "; ".join(dict.fromkeys(outcome["reason"] for outcome in outcomes if outcome["state"] == state))
    if reasons and reasons != shown:
        terminal.echo(f"{title}: {reasons}", err=True)
    return reasons
