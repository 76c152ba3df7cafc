"""Output of approvals: the question of a step, the decision on it, and the commands that decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fuseml.cli import output

_FAILED_STEP = re.compile(r"\Astep '([^']+)' failed: (?:exited with code \d+: )?")


def waiting(run: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The steps of a run that wait for an approval."""
    steps = run.get("steps")
    return [step for step in steps if _is_open(step)] if isinstance(steps, list) else []


def summary(step: Mapping[str, object]) -> str:
    """The question of a step with its deadline, or the decision on it; empty for a step without an approval."""
    approval = step.get("approval")
    if not isinstance(approval, dict):
        return ""
    by, comment = f" by {approval['by']}" if approval.get("by") else "", line(approval.get("comment"))
    if approval.get("decision"):
        decision = f"{approval['decision']}{by} at {_minute(approval.get('decided'))}"
        return f"{decision}: {comment}" if comment else decision
    until = f" (until {_minute(approval['deadline'])})" if approval.get("deadline") else ""
    return f"{line(approval.get('message')) or 'an approval is needed'}{until}"


def reason(item: Mapping[str, object]) -> str:
    """The reason for the state of a run or step: as `output.reason`, or the questions of pending approvals."""
    if item.get("state") != "waiting":
        return output.reason(item)
    if "steps" in item:
        return "; ".join(f"{step.get('name')}: {summary(step)}" for step in waiting(item))
    return summary(item)


def brief(item: Mapping[str, object]) -> str:
    """As `reason`, for a column: of a failed run the step and its cause, without the words that all of them share."""
    return _FAILED_STEP.sub(r"\1: ", reason(item))


def advice(run: Mapping[str, object]) -> Iterator[str]:
    """A line for each pending approval, with the commands that decide on it."""
    steps = waiting(run)
    for step in steps:
        which = f" --step {step.get('name')}" if len(steps) > 1 else ""
        yield f"waits for an approval of {step.get('name')}: fuseml run approve {run.get('name')}{which}, or reject"


def _is_open(step: object) -> bool:
    approval = step.get("approval") if isinstance(step, dict) and step.get("state") == "waiting" else None
    return isinstance(approval, dict) and not approval.get("decision")


def line(text: object) -> str:
    """The text as one line."""
    return " ".join(str(text or "").split())


def _minute(time: object) -> str:
    moment = output.moment(time)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z") if moment else str(time)
