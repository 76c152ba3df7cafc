"""Use cases of `run_tracker`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from fuseml.domain import events
from fuseml.engines.tekton.events import observe
from fuseml.store import runs
from fuseml.usecases import lifecycle, step_reuse


def track(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Apply what an engine saw. Events about things that are not ours, or that say nothing new, announce nothing."""
    seen = observe(event)
    row = runs.find(session, seen.run_id) if seen else None
    if seen is None or row is None:
        return []
    announced = lifecycle.apply_observation(session, row, seen)
    if seen.step is not None and seen.state == "succeeded":
        step_reuse.keep(session, row)
    return announced
