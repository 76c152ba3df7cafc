"""Dependencies of `run_tracker`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.runtime import cloudevents
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The dependencies of tracking."""

    store: database.Database
    publisher: cloudevents.Publisher
