"""The programs that move artifacts beside a step: their variables (`fuseml.domain.plans.transfers`), their patience, and their end.

They run where the step runs, and the accounts of stores reach only them. Their last line is the cause of a failed step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fuseml import artifactstores
from fuseml.artifactstores import reach
from fuseml.domain import errors
from fuseml.domain.plans import transfers

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between the attempts to reach a store that is away."""

AWAY = 75
"""The exit code when the store stayed away (EX_TEMPFAIL); a retry of the step may succeed."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One artifact of the step: the facts by name, and the connection of its store."""

    facts: Mapping[str, str]
    connection: artifactstores.Connection

    def store(self) -> artifactstores.ArtifactStore:
        """The store. Raises PermanentError if it is a folder of another machine."""
        reach.check(self.connection)
        return artifactstores.connect(self.connection)


def read(environment: Mapping[str, str], prefix: str) -> list[Transfer]:
    """The transfers of a program, from its variables."""
    found: list[Transfer] = []
    while facts := _behind(f"{prefix}_{len(found)}_", environment):
        variables = _behind(transfers.STORE_VARIABLE, facts)
        connection = artifactstores.Connection(facts["RESOURCE"], facts["URL"], variables, environment[transfers.PROJECT])
        found.append(Transfer(facts, connection))
    return found


def _behind(prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}


def patiently(action: Callable[[], _Result]) -> _Result:
    """The result of the action, which is repeated while the store is away. Raises TemporaryError in the end."""
    for pause in PAUSES:
        try:
            return action()
        except errors.TemporaryError as error:
            say(f"{error.message}; trying again in {pause:g} s")
        time.sleep(pause)
    return action()


def run(main: Callable[[], None], problem: Path | None = None) -> int:
    """The exit code of a program; its refusal is the last line of the log, and the text of the file `problem`."""
    try:
        main()
    except errors.FusemlError as error:
        message = " ".join(error.message.split())
        sys.stderr.write(f"{message}\n")
        if problem is not None:
            problem.write_text(message)
        return AWAY if isinstance(error, errors.TemporaryError) else 1
    return 0


def say(message: str) -> None:
    """Log one line of progress, at once."""
    sys.stdout.write(f"fuseml: {message}\n")
    sys.stdout.flush()


def summary(number: int, size: int | None) -> str:
    """`3 files, 12.5 MB`."""
    files = f"{number} file" if number == 1 else f"{number} files"
    return files if size is None else f"{files}, {_bytes(size)}"


def _bytes(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:g} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
