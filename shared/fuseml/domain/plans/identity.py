"""The identity of runs and of their executions. Equal meaning gives the same run, on whichever path the request comes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

# The id of an execution after the first one: the run's id and a number.
_NUMBERED = re.compile(r"(?P<run>.+)\.(?P<number>[1-9][0-9]{0,8})")


def identity(workflow: str, revision: int, inputs: Mapping[str, str], trigger: str) -> str:
    """The id of a run, 32 hex digits: the same workflow revision on the same inputs for the same trigger is one run.

    A push that is delivered ten times, in any order and on any path, therefore starts one run; a later push of the same commit starts another.
    """
    meaning = json.dumps([workflow, revision, sorted(inputs.items()), trigger], separators=(",", ":"))
    return hashlib.sha256(meaning.encode()).hexdigest()[:32]


def of_push(start: str, push: str) -> str:
    """The trigger of a run that a push starts, for `identity`: `start` is the assignment or pattern, `push` the identity of the push.

    Without a push, as for the events of former releases, it is `start`: their runs keep their identity.
    """
    return f"{start} {push}" if push else start


def execution_id(run_id: str, number: int) -> str:
    """The id of an execution in engines; the first execution has the id of its run."""
    return run_id if number <= 1 else f"{run_id}.{number}"


def execution_of(execution: str) -> tuple[str, int]:
    """The run's id and the execution's number, from the id of an execution in engines."""
    match = _NUMBERED.fullmatch(execution)
    return (match["run"], int(match["number"])) if match else (execution, 1)
