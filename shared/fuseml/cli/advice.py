"""The commands that lead on from the state of a run: those that decide on its approvals, and the logs of its failed steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fuseml.cli import approvals


def lines(run: Mapping[str, object]) -> Iterator[str]:
    """A line for each pending approval and each failed step, to follow the name of the run."""
    yield from approvals.advice(run)
    steps = run.get("steps")
    for step in steps if isinstance(steps, list) else []:
        # A step that never started has no log.
        if step.get("state") == "failed" and step.get("started"):
            yield f"failed in {step.get('name')}: fuseml run logs {run.get('name')} {step.get('name')} shows more"
