"""The identity of runs and of their executions: the same meaning is the same run, whatever asked for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

# What stands behind a run's id in the id of its second execution and of those that follow.
_NUMBERED = re.compile(r"(?P<run>.+)\.(?P<number>[1-9][0-9]{0,8})")


def identity(workflow: str, revision: int, inputs: Mapping[str, str], trigger: str) -> str:
    """The meaning of a run: the same workflow revision on the same inputs for the same trigger is one run.

    A push that is delivered ten times, in any order and on any path, therefore starts one run.

    Returns 32 hex digits; also the run's id.
    """
    meaning = json.dumps([workflow, revision, sorted(inputs.items()), trigger], separators=(",", ":"))
    return hashlib.sha256(meaning.encode()).hexdigest()[:32]


def execution_id(run_id: str, number: int) -> str:
    """What engines call an execution of a run; the first one bears the run's own id."""
    return run_id if number <= 1 else f"{run_id}.{number}"


def execution_of(execution: str) -> tuple[str, int]:
    """The run's id and the number of the execution that engines call so."""
    match = _NUMBERED.fullmatch(execution)
    return (match["run"], int(match["number"])) if match else (execution, 1)
