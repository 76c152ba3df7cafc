"""The causal chain of a run, a commit or an event: from an event back to its first cause, and on to its outcomes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlmodel

from functions.events import timeline
from fuseml.domain import errors, events
from fuseml.store import decisions, ledger, outbox, runs

_COMMIT = re.compile("[0-9a-f]{7,64}")
# The types that `dispatcher` decides on.
_DECIDED = (
    events.CodesetPushed.TYPE,
    events.WorkflowAssigned.TYPE,
    events.ArtifactRecorded.TYPE,
    events.RunRequested.TYPE,
    events.ScheduleReached.TYPE,
)
_LONGEST_CHAIN = 30
_RECENT = 5


def explain(session: sqlmodel.Session, of: str, source: str | None) -> timeline.Answer:
    """The timelines of a run (its name), a commit (at least 7 hex digits) or an event (id or number).

    Raises NotFoundError for none of them, and ConflictError for an ambiguous one.
    """
    run = _run(session, of)
    if run is not None:
        history = _of_run(session, run)
        reason = next((outcome.reason for outcome in history.outcomes if outcome.run == of), "")
        answer = f"{of} was started: {reason}." if reason else f"{of} was started."
        return timeline.Answer(of=of, kind="run", answer=answer, stories=[history])
    is_commit = _COMMIT.fullmatch(of) is not None
    timelines = _of_commit(session, of) if is_commit else []
    if timelines:
        return timeline.Answer(of=of, kind="commit", answer=timeline.sentence(f"Commit {of[:12]}", timelines), stories=timelines)
    try:
        row = ledger.find(session, of, source)
    except errors.NotFoundError:
        if is_commit:
            return _unknown_commit(session, of)
        raise errors.NotFoundError(f"{of!r} matches no run, no commit (7 or more hex digits) and no event (its id or number)") from None
    history = _of_event(session, row)
    return timeline.Answer(of=of, kind="event", answer=timeline.sentence(f"Event {row.sequence}", [history]), stories=[history])


def _run(session: sqlmodel.Session, name: str | None) -> runs.Run | None:
    return runs.find_named(session, name) if name else None


def _of_run(session: sqlmodel.Session, run: runs.Run) -> timeline.Timeline:
    row = ledger.at(session, run.trigger.get("source") or "", run.trigger.get("event") or "")
    if row is None:
        chain = [timeline.Link(kind="origin", text=f"{run.trigger.get('kind')}, which is no longer in the ledger")]
        related: Sequence[decisions.Decision] = []
    else:
        chain = _chain(session, row)
        related = decisions.of_event(session, row.source, row.id)
    steps = runs.steps(session, [run.id])
    outcomes = [timeline.decision_outcome(decision, run, steps) for decision in related if decision.run == run.name]
    return timeline.Timeline(
        chain=chain, outcomes=outcomes[:1] or [timeline.Outcome(state=run.state, reason="", run=run.name, workflow=run.workflow)]
    )


def _of_event(session: sqlmodel.Session, row: ledger.LedgerEvent) -> timeline.Timeline:
    return timeline.Timeline(chain=_chain(session, row), outcomes=_outcomes(session, row))


def _chain(session: sqlmodel.Session, row: ledger.LedgerEvent) -> list[timeline.Link]:
    """The causes of the event, first cause first, and the event itself."""
    event = outbox.from_document(row.event)
    links = [timeline.event_link(event, row.sequence)]
    while len(links) < _LONGEST_CHAIN:
        # A run stands for its steps; the engine's own events in between are left out.
        producer = _run(session, event.data.get("run")) if event.type in (events.RunStepFinished.TYPE, events.RunFinished.TYPE) else None
        if producer:
            links.insert(0, timeline.run_link(producer))
        cause = (producer.trigger.get("source", ""), producer.trigger.get("event", "")) if producer else event.cause
        before = ledger.at(session, *cause) if cause else None
        if before is None or before.type == events.TICK:
            first = timeline.origin(*cause) if cause and not producer else timeline.implied_origin(event) if not cause else None
            return [first, *links] if first else links
        event = outbox.from_document(before.event)
        links.insert(0, timeline.event_link(event, before.sequence))
    return links


def _outcomes(session: sqlmodel.Session, row: ledger.LedgerEvent) -> list[timeline.Outcome]:
    decided = decisions.of_event(session, row.source, row.id)
    outcomes = [_decided(session, decision) for decision in decided]
    consumptions = ledger.consumptions(session, [row]).get(row.sequence or 0, [])
    for reply in outbox.replies(session, row.source, row.id):
        # A consumer's reply may have outcomes of its own.
        following = ledger.at(session, reply.source, reply.id)
        if _is_decided(reply):
            on_its_way = timeline.Outcome(
                state="pending", reason=f"{timeline.short(reply.type)} {reply.subject} is not yet with the broker"
            )
            outcomes = [*outcomes, *([on_its_way] if following is None else _outcomes(session, following))]
    outcomes = [*outcomes, *(timeline.delivery_outcome(item, row.sequence or 0) for item in consumptions if item.state != "done")]
    # Outcomes of sources are not those of `dispatcher`.
    is_handled = any(not decision.outcome for decision in decided) or any(item.consumer == "dispatcher" for item in consumptions)
    if not is_handled and _is_decided(outbox.from_document(row.event)):
        outcomes.append(timeline.Outcome(state="pending", reason="dispatcher has not handled it yet", event=row.sequence))
    # Two assignments of a workflow may have equal outcomes.
    return list({outcome.model_dump_json(): outcome for outcome in outcomes}.values())


def _decided(session: sqlmodel.Session, decision: decisions.Decision) -> timeline.Outcome:
    run = _run(session, decision.run)
    return timeline.decision_outcome(decision, run, runs.steps(session, [run.id]) if run else ())


def _is_decided(event: events.Event) -> bool:
    is_code = event.type == events.ArtifactRecorded.TYPE and event.data.get("kind") == "code"
    return event.type in _DECIDED and not is_code


def _of_commit(session: sqlmodel.Session, prefix: str) -> list[timeline.Timeline]:
    pushed, decided = ledger.pushes(session, prefix), decisions.of_commit(session, prefix)
    refused = decisions.declined(session, commit=prefix)
    enqueued = [item.event for item in outbox.pending(session, 0, 1000) if _commit(item.event).startswith(prefix)]
    commits = {_commit(outbox.from_document(row.event)) for row in pushed}
    commits |= {row.commit or "" for row in decided} | {row.commit or "" for row in refused}
    if len(commits) > 1:
        raise errors.ConflictError(f"{prefix} is the prefix of {len(commits)} commits: {', '.join(sorted(commits))}")
    also = [ledger.at(session, decision.source, decision.event) for decision in decided]
    rows = {row.sequence: row for row in (*pushed, *also) if row is not None}
    timelines = [_of_event(session, rows[number]) for number in sorted(rows, key=lambda number: number or 0)]
    delivered = {(row.source, row.id) for row in rows.values()}
    for event in enqueued:
        if (event.source, event.id) not in delivered:
            outcome = timeline.Outcome(state="pending", reason="it is in the outbox, not yet with the broker")
            timelines.append(timeline.Timeline(chain=[timeline.event_link(event, None)], outcomes=[outcome]))
    if not timelines:
        # Past the ledger's retention.
        timelines = [_of_run(session, run) for run in runs.of_commit(session, prefix)]
    return timelines + [timeline.declined_delivery(row) for row in reversed(refused)]


def _commit(event: events.Event) -> str:
    return str(event.data.get("commit", "")) if event.type == events.CodesetPushed.TYPE else ""


def _unknown_commit(session: sqlmodel.Session, of: str) -> timeline.Answer:
    refused = [row for row in decisions.declined(session) if row.outcome == "refused"][:_RECENT]
    answer = f"FuseML has no event of commit {of[:12]}: was it pushed, to a registered codeset, and does its webhook reach FuseML?"
    hint = " These deliveries were refused recently; one of them may be the push." if refused else ""
    return timeline.Answer(of=of, kind="commit", answer=answer + hint, stories=[timeline.declined_delivery(row) for row in refused])
