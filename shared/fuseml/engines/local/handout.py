"""The handing out of devices: the ones that are held, and the order of those who wait.

A device is held by a step whose record says that it runs, so that every later server knows it, and by a step that was abandoned as long as its
processes may live. A step that waits closes the devices that it asks for to the later ones: else small requests would overtake a large one
for ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from fuseml.domain.workflows import resources
from fuseml.engines.local import devices, process
from fuseml.engines.local.active import ActiveRun
from fuseml.engines.local.devices import Allocation


class Handout:
    """The devices of one engine, for its `active` runs. The scheduler's lock guards it."""

    def __init__(self, present: devices.Devices, active: Mapping[str, ActiveRun]) -> None:
        self._devices = present
        self._active = active
        self._kept: list[tuple[Allocation, Callable[[], bool]]] = []
        self._closed: set[str] = set()

    @property
    def keeps(self) -> bool:
        """Whether an abandoned step holds devices. Nothing reports that it has ended."""
        return bool(self._kept)

    def begin_round(self) -> None:
        """Begin a round of allocations, in the order of the runs."""
        self._closed.clear()

    def recover(self, run: ActiveRun) -> None:
        """Keep the devices of steps that an earlier server has abandoned, and that still live."""
        for name, record in run.steps.items():
            if record.attempts and record.attempts[-1].devices and record.state != "running":
                self._kept.append((record.attempts[-1].devices, functools.partial(process.held, run.folder.step_path(name))))

    def abandon(self, run: ActiveRun, step: str, busy: Callable[[], bool]) -> None:
        """Keep the devices of an attempt that is abandoned, as long as it is `busy`. One that was never launched has no process, and gets none
        any more.
        """
        last = run.steps[step].attempts[-1]
        if last.devices and last.launched:
            self._kept.append((last.devices, busy))

    def shortages(self, run: ActiveRun, steps: Iterable[str]) -> dict[str, str]:
        """Those of the steps that this machine can never run, each with the reason: it has fewer devices than when the run was submitted."""
        return {name: reason for name in steps if (reason := self._devices.shortage(_wanted(run, name)))}

    def allocate(self, run: ActiveRun, step: str) -> Allocation | str:
        """The devices for the step, which nothing else holds, or the cause of its wait."""
        wanted = _wanted(run, step)
        if not wanted:
            return {}
        allocated = self._devices.choose(wanted, self._held()) if self._closed.isdisjoint(wanted) else None
        if allocated is None:
            self._closed.update(wanted)
            return self._devices.wait(wanted)
        return allocated

    def _held(self) -> Allocation:
        self._kept = [(kept, busy) for kept, busy in self._kept if busy()]
        running = (allocated for run in self._active.values() for allocated in run.devices)
        return devices.merged([*running, *(kept for kept, _ in self._kept)])


def _wanted(run: ActiveRun, step: str) -> Mapping[str, int]:
    return resources.devices(run.plan.step(step).resources.limits)
