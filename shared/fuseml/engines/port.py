"""The port of engines: the protocol that each engine implements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fuseml.domain import events, plans


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a step's log from an offset on. With `complete`, nothing will follow `next_offset`."""

    data: bytes
    next_offset: int
    complete: bool


class Engine(Protocol):
    """An executor of plans, as used for dispatch, tracking and logs. Runs are identified by the plan's `id`, which identifies one execution."""

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """Start the plan. Idempotent by `plan.id`: a repeated submit, also after a crash, changes nothing.

        All steps of the plan may run at once: steps that await an approval follow in a plan of their own
        (`domain.plans.replan.execution`).

        `secrets` maps `SecretPart.ref` to the secret, and `Checkout.account` to the account that reads a private codeset; the engine ignores
        entries that it does not need. Raises PermanentError when the plan can never run, TemporaryError when the engine is unreachable now.
        """

    def cancel(self, run_id: str, reason: str) -> None:
        """Stop running steps and start no others. Does nothing for a finished or unknown run."""

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """The present state of the run as the events that lead to it. Their ids are stable, so that repeats are duplicates.

        Empty for an unknown run.
        """

    def loss(self, run_id: str) -> str | None:
        """The reason why the end of a submitted run will never be reported: the engine no longer has the run. None while it has it.

        Never None for a run that was not submitted. Raises TemporaryError when the engine is unreachable now.
        """

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """At most `limit` bytes of the step's stdout and stderr, in the order written, from byte `offset`. Raises NotFoundError."""

    def drop_log(self, run_id: str, step: str) -> None:
        """Free the space of a finished step's log, which is kept elsewhere: `logs` raises NotFoundError afterwards. Idempotent.

        Does nothing for an unknown run, and on an engine whose logs go with other objects.
        """

    def forget(self, run_id: str) -> None:
        """Remove a finished run with its logs. Raises ConflictError for an unfinished run; does nothing for an unknown run."""
