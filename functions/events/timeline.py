"""What `GET /why` answers, and the sentences in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pydantic

from fuseml.domain import events
from fuseml.store import decisions, ledger, runs


class Link(pydantic.BaseModel):
    """One step of what led here. `event` is its number in the ledger; `state` that of a run."""

    kind: Literal["origin", "event", "run"]
    text: str
    time: str | None = None
    event: int | None = None
    run: str | None = None
    state: str | None = None


class Outcome(pydantic.BaseModel):
    """What came of it: `state` is that of the run, else nothing, pending, dead, dropped, refused, ignored or duplicate; `reason` says why."""

    state: str
    reason: str
    run: str | None = None
    workflow: str | None = None
    event: int | None = None


class Story(pydantic.BaseModel):
    """From the first known cause to what came of it."""

    chain: list[Link]
    outcomes: list[Outcome]


class Answer(pydantic.BaseModel):
    """`answer` is the whole in one sentence; `kind` says what `of` was taken for."""

    of: str
    kind: Literal["run", "commit", "event"]
    answer: str
    stories: list[Story]


_ORIGINS = {
    "/webhooks/gitea": "a webhook of the git host, delivery {id}",
    "/webhooks/mlflow/": "a webhook of {name}, delivery {id}",
    "/events": "sent by hand",
}


def origin(source: str, id: str) -> Link:
    """A cause that is no event of the ledger."""
    if "/pingsources/" in source:
        text = "the sweep found it: its webhook was lost or late"
    else:
        told = next((text for prefix, text in _ORIGINS.items() if source.startswith(prefix)), "{name}, {id}")
        text = told.format(id=id or "without a name", name=source.rpartition("/")[2] or source)
    return Link(kind="origin", text=text)


def untold(event: events.Event) -> Link | None:
    """What is behind an event that names no cause, where its type tells."""
    match event.type:
        case events.RunRequested.TYPE:
            return Link(kind="origin", text="somebody asked for a run")
        case events.ScheduleReached.TYPE:
            return Link(kind="origin", text="the schedule of the workflow")
        case events.WorkflowAssigned.TYPE:
            return Link(kind="origin", text="somebody assigned the workflow")
        case _:
            return None


def event_link(event: events.Event, number: int | None) -> Link:
    """An event as a step of the chain."""
    return Link(kind="event", text=f"{short(event.type)} {_about(event)}", time=event.time, event=number)


def _about(event: events.Event) -> str:
    if event.type == events.CodesetPushed.TYPE:
        return f"{event.subject} {event.data.get('ref', '')} at {str(event.data.get('commit', ''))[:8]}"
    if event.type == events.ScheduleReached.TYPE:
        return f"{event.subject} at {event.data.get('due', '')}"
    if event.type == events.RunRequested.TYPE and event.data.get("run"):
        return f"{event.data.get('action')} of {event.data['run']}"
    return event.subject or event.id


def short(type: str) -> str:
    """A type as people say it."""
    return type.removeprefix(events.PREFIX).removesuffix(".v1") if type.startswith(events.PREFIX) else type


def run_link(run: runs.Run) -> Link:
    """A run as a step of the chain."""
    return Link(kind="run", text=f"{run.name} of workflow {run.workflow}", time=run.created, run=run.name, state=run.state)


def decided(decision: decisions.Decision, run: runs.Run | None) -> Outcome:
    """What was decided, with what has become of the run since."""
    how = {"failed": "failed", "cancelled": "was cancelled"}.get(run.state) if run else None
    ended = f"; it {how}: {run.cause}" if run and how and run.cause else ""
    return Outcome(state=run.state if run else "nothing", reason=decision.reason + ended, run=decision.run, workflow=decision.workflow)


def undelivered(consumption: ledger.Consumption, number: int) -> Outcome:
    """A delivery that is not done."""
    who, error = consumption.consumer, consumption.error or "no cause was told"
    match consumption.state:
        case "dead":
            reason = f"{who} gave up on it: {error}; `fuseml events replay {number}` delivers it again"
        case "dropped":
            reason = f"{who} gave up on it, and it was dropped: {error}"
        case _ if consumption.attempts:
            reason = f"{who} could not handle it yet: {error}; it will be delivered again"
        case _:
            reason = f"it waits for its delivery to {who}"
    return Outcome(state=consumption.state, reason=reason, event=number)


def declined(row: decisions.DeclinedDelivery) -> Story:
    """A webhook's delivery that became no event."""
    sender = "a webhook of the git host" if row.ingress == "gitea" else f"a webhook of {row.ingress}"
    text = f"{sender}, delivery {row.delivery or 'without a name'}" + (f", for {row.subject}" if row.subject else "")
    link = Link(kind="origin", text=text, time=row.received)
    return Story(chain=[link], outcomes=[Outcome(state=row.outcome, reason=row.reason)])


def sentence(subject: str, stories: Sequence[Story]) -> str:
    """The whole in one sentence."""
    outcomes = [outcome for story in stories for outcome in story.outcomes]
    started = list(dict.fromkeys(outcome.run for outcome in outcomes if outcome.run))
    if started:
        return f"{subject} started {', '.join(started)}."
    waiting = next((outcome for outcome in outcomes if outcome.state == "pending"), None)
    if waiting:
        return f"{subject} has started nothing yet: {waiting.reason}."
    # A duplicate or an ignored delivery is seldom what somebody asks for.
    worst = sorted(outcomes, key=lambda outcome: outcome.state in ("duplicate", "ignored"))
    return f"{subject} started nothing" + (f": {worst[0].reason}." if worst else ".")
