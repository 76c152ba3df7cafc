"""The handing out of devices: the ones that are held, and the order of those who wait.

A device is held by a step whose record says that it runs, so that every later server knows it, and as long as its processes may live by a step
that was abandoned, or whose run cannot be read. A step that waits closes the devices that it asks for to the later ones: else small requests
would overtake a large one for ever.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Container, Iterable, Mapping

from fuseml.domain import errors
from fuseml.domain.workflows import resources
from fuseml.engines.local import devices, journal, process
from fuseml.engines.local.active import ActiveRun
from fuseml.engines.local.devices import Allocation

_LOG = logging.getLogger(__name__)


class Handout:
    """The devices of one engine, for its `active` runs. The scheduler's lock guards it."""

    def __init__(self, present: devices.Devices, active: Mapping[str, ActiveRun]) -> None:
        self._devices = present
        self._active = active
        self._kept: list[tuple[Allocation, Callable[[], bool]]] = []
        self._closed: set[str] = set()

    @property
    def keeps(self) -> bool:
        """Whether a step that nothing reports on holds devices."""
        return bool(self._kept)

    def begin_round(self) -> None:
        """Begin a round of allocations, in the order of the runs."""
        self._closed.clear()

    def recover(self, run: ActiveRun) -> None:
        """Keep the devices of steps that an earlier server has abandoned, and that still live."""
        for name, record in run.steps.items():
            if record.attempts and record.attempts[-1].devices and record.state != "running":
                self._keep(record.attempts[-1].devices, run.folder, name)

    def withhold(self, folder: journal.RunFolder) -> None:
        """Keep the devices of a run that cannot be read, as long as its processes may live: all that it may hold, where no record names them."""
        try:
            for step in folder.begun:
                self._keep(self._last_of(folder, step), folder, step)
        except OSError as error:
            _LOG.error("no device is handed out until the steps in %s are known to be over: %s", folder.path, error)
            self._kept.append((self._devices.every(self._devices.pools), functools.partial(_may_live, folder)))

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

    def _keep(self, allocation: Allocation, folder: journal.RunFolder, step: str) -> None:
        life = process.Life(folder.step_path(step))
        if allocation and life.lasts():
            listed = "; ".join(f"{resource} {', '.join(ids)}" for resource, ids in allocation.items())
            _LOG.warning("%s stays withheld until step %s in %s ends, which runs without a record", listed, step, folder.path)
            self._kept.append((allocation, life.lasts))

    def _last_of(self, folder: journal.RunFolder, step: str) -> Allocation:
        try:
            attempts = folder.step(step).attempts
        except errors.FusemlError as error:
            _LOG.warning("the devices of a step are not known: %s", error)
            return self._devices.every(_asked_for(folder, step, self._devices))
        return attempts[-1].devices if attempts else {}

    def _held(self) -> Allocation:
        self._kept = [(kept, busy) for kept, busy in self._kept if busy()]
        running = (allocated for run in self._active.values() for allocated in run.devices)
        return devices.merged([*running, *(kept for kept, _ in self._kept)])


def _wanted(run: ActiveRun, step: str) -> Mapping[str, int]:
    return resources.devices(run.plan.step(step).resources.limits)


def _asked_for(folder: journal.RunFolder, step: str, present: devices.Devices) -> Container[str]:
    """The resources that the step asks for; all that are present where its plan cannot be read."""
    try:
        return resources.devices(folder.read_plan().step(step).resources.limits)
    except errors.FusemlError:
        return present.pools  # the cause is in the log already: for it the run is skipped


def _may_live(folder: journal.RunFolder) -> bool:
    try:
        return any(process.held(folder.step_path(step)) for step in folder.begun)
    except OSError:
        return True  # still not known
