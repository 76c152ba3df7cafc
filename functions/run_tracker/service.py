"""Use cases of `run_tracker`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from fuseml.domain import events
from fuseml.engines.tekton.events import observe
from fuseml.store import runs
from fuseml.usecases import lifecycle, step_reuse


def track(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Apply the observation of an engine. Returns the events to publish: none for objects of others, and for repeated observations."""
    observation = observe(event)
    row = runs.find(session, observation.run_id) if observation else None
    if observation is None or row is None:
        return []
    payloads = lifecycle.apply_observation(session, row, observation)
    if observation.step is not None and observation.state == "succeeded":
        step_reuse.keep(session, row)
    return payloads
