"""Why a run started, and why nothing did: follows what was written down, from an event back to its first cause and on to its outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlmodel

from functions.events import timeline
from fuseml.domain import errors, events
from fuseml.store import decisions, ledger, outbox, runs

_COMMIT = re.compile("[0-9a-f]{7,64}")
# What `dispatcher` decides on.
_DECIDED = (
    events.CodesetPushed.TYPE,
    events.WorkflowAssigned.TYPE,
    events.ArtifactRecorded.TYPE,
    events.RunRequested.TYPE,
    events.ScheduleReached.TYPE,
)
_LONGEST_CHAIN = 30
_LATELY = 5


def explain(session: sqlmodel.Session, of: str, source: str | None) -> timeline.Answer:
    """The story of a run (its name), a commit (at least 7 hex digits) or an event (id or number).

    Raises NotFoundError for what is none of them, ConflictError for what is several.
    """
    run = _run(session, of)
    if run is not None:
        told = _of_run(session, run)
        reason = next((outcome.reason for outcome in told.outcomes if outcome.run == of), "")
        return timeline.Answer(of=of, kind="run", answer=f"{of} was started: {reason}." if reason else f"{of} was started.", stories=[told])
    is_commit = _COMMIT.fullmatch(of) is not None
    stories = _of_commit(session, of) if is_commit else []
    if stories:
        return timeline.Answer(of=of, kind="commit", answer=timeline.sentence(f"Commit {of[:12]}", stories), stories=stories)
    try:
        row = ledger.find(session, of, source)
    except errors.NotFoundError:
        if is_commit:
            return _unknown_commit(session, of)
        raise errors.NotFoundError(f"{of!r} is no run, no commit (7 or more hex digits) and no event (its id or number)") from None
    told = _of_event(session, row)
    return timeline.Answer(of=of, kind="event", answer=timeline.sentence(f"Event {row.sequence}", [told]), stories=[told])


def _run(session: sqlmodel.Session, name: str | None) -> runs.Run | None:
    return runs.find_named(session, name) if name else None


def _of_run(session: sqlmodel.Session, run: runs.Run) -> timeline.Story:
    row = ledger.at(session, run.trigger.get("source") or "", run.trigger.get("event") or "")
    if row is None:
        chain = [timeline.Link(kind="origin", text=f"{run.trigger.get('kind')}, which the ledger does not hold any more")]
        told: Sequence[decisions.Decision] = []
    else:
        chain = _chain(session, row)
        told = decisions.of_event(session, row.source, row.id)
    found = [timeline.decided(decision, run) for decision in told if decision.run == run.name]
    return timeline.Story(
        chain=chain, outcomes=found[:1] or [timeline.Outcome(state=run.state, reason="", run=run.name, workflow=run.workflow)]
    )


def _of_event(session: sqlmodel.Session, row: ledger.LedgerEvent) -> timeline.Story:
    return timeline.Story(chain=_chain(session, row), outcomes=_outcomes(session, row))


def _chain(session: sqlmodel.Session, row: ledger.LedgerEvent) -> list[timeline.Link]:
    """What led to the event, first cause first, and the event itself."""
    event = outbox.from_document(row.event)
    links = [timeline.event_link(event, row.sequence)]
    while len(links) < _LONGEST_CHAIN:
        # What a run's steps did, the run did: the engine's own events in between say nothing to people.
        made_by = _run(session, event.data.get("run")) if event.type in (events.RunStepFinished.TYPE, events.RunFinished.TYPE) else None
        if made_by:
            links.insert(0, timeline.run_link(made_by))
        cause = (made_by.trigger.get("source", ""), made_by.trigger.get("event", "")) if made_by else event.cause
        before = ledger.at(session, *cause) if cause else None
        if before is None or before.type == events.TICK:
            first = timeline.origin(*cause) if cause and not made_by else timeline.untold(event) if not cause else None
            return [first, *links] if first else links
        event = outbox.from_document(before.event)
        links.insert(0, timeline.event_link(event, before.sequence))
    return links


def _outcomes(session: sqlmodel.Session, row: ledger.LedgerEvent) -> list[timeline.Outcome]:
    found = [timeline.decided(decision, _run(session, decision.run)) for decision in decisions.of_event(session, row.source, row.id)]
    became = ledger.consumptions(session, [row]).get(row.sequence or 0, [])
    for reply in outbox.replies(session, row.source, row.id):
        # What a consumer made of it may start something in its turn.
        following = ledger.at(session, reply.source, reply.id)
        if following is not None and _is_decided(reply):
            found += _outcomes(session, following)
    found += [timeline.undelivered(item, row.sequence or 0) for item in became if item.state != "done"]
    is_handled = any(item.consumer == "dispatcher" for item in became)
    if not found and not is_handled and _is_decided(outbox.from_document(row.event)):
        found.append(timeline.Outcome(state="pending", reason="dispatcher has not handled it yet", event=row.sequence))
    # Two assignments of a workflow may say the same.
    return list({outcome.model_dump_json(): outcome for outcome in found}.values())


def _is_decided(event: events.Event) -> bool:
    is_code = event.type == events.ArtifactRecorded.TYPE and event.data.get("kind") == "code"
    return event.type in _DECIDED and not is_code


def _of_commit(session: sqlmodel.Session, prefix: str) -> list[timeline.Story]:
    pushed, decided = ledger.pushes(session, prefix), decisions.of_commit(session, prefix)
    refused = decisions.declined(session, commit=prefix)
    announced = [item.event for item in outbox.pending(session, 0, 1000) if _commit(item.event).startswith(prefix)]
    known = {_commit(outbox.from_document(row.event)) for row in pushed}
    known |= {row.commit or "" for row in decided} | {row.commit or "" for row in refused}
    if len(known) > 1:
        raise errors.ConflictError(f"{prefix} is the beginning of {len(known)} commits: {', '.join(sorted(known))}")
    also = [ledger.at(session, decision.source, decision.event) for decision in decided]
    rows = {row.sequence: row for row in (*pushed, *also) if row is not None}
    found = [_of_event(session, rows[number]) for number in sorted(rows, key=lambda number: number or 0)]
    on_disk = {(row.source, row.id) for row in rows.values()}
    waiting = "it is announced, and waits to be handed to the broker"
    for event in announced:
        if (event.source, event.id) not in on_disk:
            outcome = timeline.Outcome(state="pending", reason=waiting)
            found.append(timeline.Story(chain=[timeline.event_link(event, None)], outcomes=[outcome]))
    if not found:
        # Older than the ledger's memory.
        found = [_of_run(session, run) for run in runs.of_commit(session, prefix)]
    return found + [timeline.declined(row) for row in reversed(refused)]


def _commit(event: events.Event) -> str:
    return str(event.data.get("commit", "")) if event.type == events.CodesetPushed.TYPE else ""


def _unknown_commit(session: sqlmodel.Session, of: str) -> timeline.Answer:
    refused = [row for row in decisions.declined(session) if row.outcome == "refused"][:_LATELY]
    answer = f"FuseML has not heard of commit {of[:12]}: was it pushed, to a codeset that is registered, and does its webhook reach FuseML?"
    lately = " These deliveries were refused lately; one of them may have been it." if refused else ""
    return timeline.Answer(of=of, kind="commit", answer=answer + lately, stories=[timeline.declined(row) for row in refused])
