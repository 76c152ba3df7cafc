"""The response of `GET /why`, and its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pydantic

from fuseml.domain import events
from fuseml.store import decisions, ledger, runs


class Link(pydantic.BaseModel):
    """One link of a causal chain. `event` is a number in the ledger; `state` that of a run."""

    kind: Literal["origin", "event", "run"]
    text: str
    time: str | None = None
    event: int | None = None
    run: str | None = None
    state: str | None = None


class Outcome(pydantic.BaseModel):
    """The end of a causal chain. `state` is that of the run, else nothing, applied, pending, dead, dropped, refused, ignored or duplicate."""

    state: str
    reason: str
    run: str | None = None
    workflow: str | None = None
    event: int | None = None


class Timeline(pydantic.BaseModel):
    """From the first known cause to its outcomes."""

    chain: list[Link]
    outcomes: list[Outcome]


class Answer(pydantic.BaseModel):
    """`answer` is the summary in one sentence; `kind` is the interpretation of `of`."""

    of: str
    kind: Literal["run", "commit", "event"]
    answer: str
    stories: list[Timeline]


_ORIGINS = {
    "/webhooks/gitea": "a webhook of the git host, delivery {id}",
    "/webhooks/mlflow/": "a webhook of {name}, delivery {id}",
    "/events": "sent by hand",
}


def origin(source: str, id: str) -> Link:
    """The link for a cause that is no event of the ledger."""
    if "/pingsources/" in source:
        text = "the sweep detected it: its webhook was lost or late"
    else:
        template = next((text for prefix, text in _ORIGINS.items() if source.startswith(prefix)), "{name}, {id}")
        text = template.format(id=id or "without an id", name=source.rpartition("/")[2] or source)
    return Link(kind="origin", text=text)


def implied_origin(event: events.Event) -> Link | None:
    """The link for an event that names no cause, where its type implies one."""
    match event.type:
        case events.RunRequested.TYPE:
            return Link(kind="origin", text="a request for a run")
        case events.ScheduleReached.TYPE:
            return Link(kind="origin", text="the workflow's schedule")
        case events.WorkflowAssigned.TYPE:
            return Link(kind="origin", text="an assignment of the workflow")
        case _:
            return None


def event_link(event: events.Event, number: int | None) -> Link:
    """The link for an event of the ledger."""
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
    """A type without prefix and version."""
    return type.removeprefix(events.PREFIX).removesuffix(".v1") if type.startswith(events.PREFIX) else type


def run_link(run: runs.Run) -> Link:
    """The link for a run."""
    return Link(kind="run", text=f"{run.name} of workflow {run.workflow}", time=run.created, run=run.name, state=run.state)


def decision_outcome(decision: decisions.Decision, run: runs.Run | None, steps: Sequence[runs.StepRun] = ()) -> Outcome:
    """The outcome of a decision, with the state of its run, and the waits of the `steps` of the run."""
    end = {"failed": "failed", "cancelled": "was cancelled"}.get(run.state) if run else None
    suffix = f"; it {end}: {run.cause}" if run and end and run.cause else ""
    suffix += "".join(f"; step {step.name} {step.cause}" for step in steps if step.state == "queued" and step.cause)
    state = run.state if run else decision.outcome or "nothing"
    return Outcome(state=state, reason=decision.reason + suffix, run=decision.run, workflow=decision.workflow)


def delivery_outcome(consumption: ledger.Consumption, number: int) -> Outcome:
    """The outcome of a delivery that is not done."""
    consumer, error = consumption.consumer, consumption.error or "no cause reported"
    match consumption.state:
        case "dead":
            reason = f"delivery to {consumer} failed for good: {error}; `fuseml events replay {number}` delivers it again"
        case "dropped":
            reason = f"delivery to {consumer} failed for good, and its dead letter was dropped: {error}"
        case _ if consumption.attempts:
            reason = f"delivery to {consumer} failed: {error}; it will be retried"
        case _:
            reason = f"delivery to {consumer} is pending"
    return Outcome(state=consumption.state, reason=reason, event=number)


def declined_delivery(row: decisions.DeclinedDelivery) -> Timeline:
    """The timeline of a webhook's delivery that became no event."""
    sender = "a webhook of the git host" if row.ingress in ("gitea", "git") else f"a webhook of {row.ingress}"
    text = f"{sender}, delivery {row.delivery or 'without an id'}" + (f", for {row.subject}" if row.subject else "")
    link = Link(kind="origin", text=text, time=row.received)
    return Timeline(chain=[link], outcomes=[Outcome(state=row.outcome, reason=row.reason)])


def sentence(subject: str, timelines: Sequence[Timeline]) -> str:
    """The summary in one sentence."""
    outcomes = [outcome for timeline in timelines for outcome in timeline.outcomes]
    started = list(dict.fromkeys(outcome.run for outcome in outcomes if outcome.run))
    if started:
        return f"{subject} started {', '.join(started)}."
    applied = next((outcome for outcome in outcomes if outcome.state == "applied"), None)
    if applied:
        return f"{subject} was applied: {applied.reason}."
    waiting = next((outcome for outcome in outcomes if outcome.state == "pending"), None)
    if waiting:
        return f"{subject} has started nothing yet: {waiting.reason}."
    # A duplicate or an ignored delivery is seldom the reason that the question is about.
    worst = sorted(outcomes, key=lambda outcome: outcome.state in ("duplicate", "ignored"))
    return f"{subject} started nothing" + (f": {worst[0].reason}." if worst else ".")
