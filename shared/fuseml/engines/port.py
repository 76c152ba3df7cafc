"""The port of engines: the protocol that each engine implements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuseml.domain import events, plans


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a step's log from an offset on. `complete` means that nothing will follow `next_offset`."""

    data: bytes
    next_offset: int
    complete: bool


class Engine(Protocol):
    """What dispatching, tracking and log reading need from whatever executes plans. Runs are named by the plan's `id`, which names one execution."""

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """Start the plan. Idempotent by `plan.id`: submitting again, also after a crash in between, changes nothing.

        Whatever is in the plan may run at once: steps that somebody has yet to approve come later, in a plan of their own
        (`domain.plans.replan.execution`).

        `secrets` maps `SecretPart.ref` to the secret, and `Checkout.account` to the account that reads the codeset where not everybody may;
        what the engine has no use for it leaves alone. Raises PermanentError when the plan can never run, TemporaryError when
        the engine cannot be reached now.
        """

    def cancel(self, run_id: str, reason: str) -> None:
        """Stop what runs and start nothing more. Does nothing for a finished or unknown run."""

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """The run's present state as the events that would have led to it; their ids are stable, so that repeats are duplicates.

        Empty when the engine does not know the run.
        """

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """At most `limit` bytes of the step's output and errors, in the order written, from byte `offset`. Raises NotFoundError."""

    def forget(self, run_id: str) -> None:
        """Remove everything about a finished run, its logs too. Raises ConflictError while it has not finished; an unknown run is forgotten already."""
