"""The known moves of refs (domain.pushes): which deliveries of a git host are new pushes, and which pushes the sweep found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, func, select

from fuseml.domain import events, pushes
from fuseml.store import codesets
from fuseml.store.tables.codeset_rows import Codeset, CodesetMove, CodesetRef

# GitHub reports the deletion of a branch by two events with bodies of their own.
_DELETION = "deletion"


@dataclass(frozen=True, slots=True)
class Taken:
    """The effect of a delivery: the pushes to publish, and for a duplicate the reason. `has_event`: its own event was or will be published."""

    published: Sequence[events.CodesetPushed]
    duplicate: str | None = None
    has_event: bool = True


def take(session: Session, codeset: Codeset, push: events.CodesetPushed, digest: str, now: str) -> Taken:
    """Record a delivered push, whose id is `push.push` and whose body has the digest, unless it is known."""
    move = pushes.Move("push", push.before, push.commit, push.push, digest, push.identity)
    if push.before and push.ref.startswith("refs/tags/"):
        move = _of_tag(session, codeset, push.ref, move)
    decision = _decide(session, codeset, push.ref, move)
    match decision.outcome:
        case "repeated":
            return Taken((), f"this push was delivered before: {push.ref} at {push.commit[:12]}, delivery {push.push}")
        case "copy":
            _apply(session, codeset, push.ref, decision, now)
            reason = "this push was delivered before under another id, and as far as is known its ref has not returned since"
            return Taken((), reason, has_event=False)
        case "found":
            _apply(session, codeset, push.ref, decision, now)
            _record_end(session, codeset, push.ref, decision, now)
            reason = f"the sweep found this push before its delivery: {push.ref} at {push.commit[:12]}"
            return Taken((), reason, has_event=False)
        case _:
            _apply(session, codeset, push.ref, decision, now)
            _record_end(session, codeset, push.ref, decision, now)
            return Taken([push])


def take_deletion(session: Session, codeset: Codeset, ref: str, before: str | None, delivery: str, now: str) -> None:
    """Record a delivered deletion of a ref; without `before`, of its present commit."""
    row = session.get(CodesetRef, (codeset.project, codeset.name, ref))
    before = before or (row.commit if row else None)
    if before is None:
        return
    decision = _decide(session, codeset, ref, pushes.Move("delete", before, None, delivery, _DELETION))
    if decision.outcome != "new":
        return
    _apply(session, codeset, ref, decision, now)
    if row is not None and (decision.is_current or row.commit == before):
        session.delete(row)


def observe(session: Session, codeset: Codeset, ref: str, head: str | None, now: str) -> events.CodesetPushed | None:
    """Record that the git host has the ref at `head`, or not at all. Returns the push that moved it there where none is known."""
    row = session.get(CodesetRef, (codeset.project, codeset.name, ref))
    learned = pushes.observe(_all(session, codeset, ref), head)
    added = _add(session, codeset, ref, learned, now)
    if head is None:
        if row is not None:
            session.delete(row)
        return None
    if not learned:
        # Late deliveries have overtaken one another; the push to this commit is published.
        there = [move for move in _all(session, codeset, ref) if move.commit == head and move.event]
        codesets.record_commit(session, codeset, ref, head, now, there[-1].event if there else None)
        return None
    push = events.CodesetPushed(
        project=codeset.project,
        codeset=codeset.name,
        ref=ref,
        before=row.commit if row else None,
        commit=head,
        registered=codeset.created,
    )
    push = _found(session, added[-1], push)
    codesets.record_commit(session, codeset, ref, head, now, push.identity)
    return push


def find(session: Session, codeset: Codeset, push: events.CodesetPushed, now: str) -> events.CodesetPushed | None:
    """Record a push of the host's record, which has no id of its delivery. Returns it to be published, or None where it is known."""
    learned = pushes.recorded(_all(session, codeset, push.ref), push.before, push.commit)
    if not learned:
        return None
    push = _found(session, _add(session, codeset, push.ref, learned, now)[-1], push)
    row = session.get(CodesetRef, (codeset.project, codeset.name, push.ref))
    if row is None or row.commit == push.before:
        codesets.record_commit(session, codeset, push.ref, push.commit, now, push.identity)
    return push


def _found(session: Session, move: CodesetMove, push: events.CodesetPushed) -> events.CodesetPushed:
    """The push under the id of its move, which records the event."""
    push = push.model_copy(update={"push": f"sweep-{move.sequence}"})
    move.event = push.identity
    session.add(move)
    return push


def origin(session: Session, codeset: Codeset, ref: str, commit: str) -> str | None:
    """The commit that the ref was at before it came to `commit` last; None for a new ref, and where that is not known."""
    query = select(CodesetMove.before).where(*_of(codeset.project, codeset.name, ref), CodesetMove.commit == commit)
    return session.exec(query.order_by(col(CodesetMove.sequence).desc()).limit(1)).first()


def newest(session: Session) -> int:
    """The number of the newest known move of all refs; 0 without one."""
    return session.exec(select(func.max(CodesetMove.sequence))).one() or 0


def has_moved(session: Session, codeset: Codeset, ref: str, since: int) -> bool:
    """Whether a move of the ref is known that is newer than the number `since`."""
    query = select(CodesetMove.sequence).where(*_of(codeset.project, codeset.name, ref), col(CodesetMove.sequence) > since)
    return session.exec(query.limit(1)).first() is not None


def forget(session: Session, before: str) -> None:
    """Forget the moves from before a time; the values at which they may have ended stay."""
    old = select(CodesetMove.project, CodesetMove.codeset, CodesetMove.ref).where(
        col(CodesetMove.received) < before, CodesetMove.kind != "start"
    )
    for project, name, ref in session.exec(old.distinct()).all():
        codeset = codesets.find_codeset(session, project, name)
        of_ref = _of(project, name, ref)
        ends = pushes.compacted(_moves(session, *of_ref, col(CodesetMove.received) < before))
        session.exec(sqlalchemy.delete(CodesetMove).where(*of_ref, col(CodesetMove.received) < before))
        if codeset is not None:
            _add(session, codeset, ref, [pushes.Move("start", commit=end) for end in ends], before)


def _of_tag(session: Session, codeset: Codeset, ref: str, move: pushes.Move) -> pushes.Move:
    """The move of a tag between commits: `before` of an annotated tag is a tag object, of which only the commit is known."""
    of_ref = _of(codeset.project, codeset.name, ref)
    same_body = sqlalchemy.and_(col(CodesetMove.digest) == move.digest, col(CodesetMove.digest) != "")
    delivered = sqlalchemy.or_(col(CodesetMove.delivery) == move.delivery, same_body)
    known = session.exec(select(CodesetMove).where(*of_ref, CodesetMove.commit == move.commit, delivered)).first()
    if known:
        return dataclasses.replace(move, before=known.before)
    if session.exec(select(CodesetMove.sequence).where(*of_ref, CodesetMove.commit == move.before)).first():
        return move
    row = session.get(CodesetRef, (codeset.project, codeset.name, ref))
    return dataclasses.replace(move, before=row.commit if row else move.before)


def _decide(session: Session, codeset: Codeset, ref: str, move: pushes.Move) -> pushes.Decision:
    ends = [CodesetMove.commit == value for value in (move.before, move.commit)] + [
        CodesetMove.before == value for value in (move.before, move.commit)
    ]
    near = _moves(session, *_of(codeset.project, codeset.name, ref), sqlalchemy.or_(*ends))  # type: ignore[arg-type]
    return pushes.decide(near, move, lambda: _all(session, codeset, ref))


def _apply(session: Session, codeset: Codeset, ref: str, decision: pushes.Decision, now: str) -> None:
    for move in decision.remove:
        session.delete(session.get_one(CodesetMove, move.number))
    _add(session, codeset, ref, decision.add, now)


def _record_end(session: Session, codeset: Codeset, ref: str, decision: pushes.Decision, now: str) -> None:
    """Store the commit that the ref is at after a delivered push, as far as it is known."""
    move = decision.add[0]
    if not decision.is_current:
        row = session.get(CodesetRef, (codeset.project, codeset.name, ref))
        if row is None or row.commit != move.before:
            return
        # The late push explains that the ref has left its recorded commit.
        end = pushes.end(_all(session, codeset, ref))
        if end is None:
            return
        move = end
    if move.commit is not None:
        codesets.record_commit(session, codeset, ref, move.commit, now, move.event)


def _add(session: Session, codeset: Codeset, ref: str, moves: Sequence[pushes.Move], now: str) -> list[CodesetMove]:
    rows = [
        CodesetMove(
            project=codeset.project,
            codeset=codeset.name,
            ref=ref,
            kind=move.kind,
            before=move.before,
            commit=move.commit,
            delivery=move.delivery,
            digest=move.digest,
            event=move.event,
            received=now,
        )
        for move in moves
    ]
    session.add_all(rows)
    session.flush()
    return rows


def _all(session: Session, codeset: Codeset, ref: str) -> list[pushes.Move]:
    return _moves(session, *_of(codeset.project, codeset.name, ref))


def _moves(session: Session, *conditions: sqlalchemy.ColumnElement[bool]) -> list[pushes.Move]:
    """The known moves that meet the conditions, oldest first. A ref may have many, so they are read as values, not as rows."""
    table = CodesetMove
    fields = (table.kind, table.before, table.commit, table.delivery, table.digest, table.event, table.sequence)
    query = sqlalchemy.select(*fields).where(*conditions).order_by(col(table.sequence))  # type: ignore[call-overload]
    return [pushes.Move(*values) for values in session.exec(query)]


def _of(project: str, name: str, ref: str) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
    return (col(CodesetMove.project) == project, col(CodesetMove.codeset) == name, col(CodesetMove.ref) == ref)
