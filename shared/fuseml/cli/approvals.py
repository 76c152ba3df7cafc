"""How approvals look: what a step asks, who answered when and why, and which commands answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fuseml.cli import output


def waiting(run: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The steps of a run that wait for an answer."""
    steps = run.get("steps")
    return [step for step in steps if _is_open(step)] if isinstance(steps, list) else []


def told(step: Mapping[str, object]) -> str:
    """The question of a step and how long it stays open, or its answer; nothing for a step that was not asked for."""
    approval = step.get("approval")
    if not isinstance(approval, dict):
        return ""
    by, comment = f" by {approval['by']}" if approval.get("by") else "", _line(approval.get("comment"))
    if approval.get("decision"):
        answer = f"{approval['decision']}{by} at {_minute(approval.get('decided'))}"
        return f"{answer}: {comment}" if comment else answer
    until = f" (until {_minute(approval['deadline'])})" if approval.get("deadline") else ""
    return f"{_line(approval.get('message')) or 'an approval is needed'}{until}"


def asks(step: Mapping[str, object]) -> str:
    """What a planned step will ask, and for how long; nothing for one that asks nobody."""
    from fuseml.domain.runs.approval import duration

    approval = step.get("approval")
    if not isinstance(approval, dict):
        return ""
    within = f" (within {duration(approval['expires'])})" if approval.get("expires") else ""
    return f"{_line(approval.get('message')) or 'an approval is needed'}{within}"


def reason(item: Mapping[str, object]) -> str:
    """Why a run or step is in its state: what `output.reason` says or, when people are waited for, what they are asked."""
    if item.get("state") != "waiting":
        return output.reason(item)
    if "steps" in item:
        return "; ".join(f"{step.get('name')}: {told(step)}" for step in waiting(item))
    return told(item)


def advice(run: Mapping[str, object]) -> Iterator[str]:
    """The commands that answer, a line each; none when nobody is waited for."""
    steps = waiting(run)
    for step in steps:
        which = f" --step {step.get('name')}" if len(steps) > 1 else ""
        yield f"waits for an approval of {step.get('name')}: fuseml run approve {run.get('name')}{which}, or reject"


def _is_open(step: object) -> bool:
    approval = step.get("approval") if isinstance(step, dict) and step.get("state") == "waiting" else None
    return isinstance(approval, dict) and not approval.get("decision")


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _minute(time: object) -> str:
    moment = output.moment(time)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z") if moment else str(time)
