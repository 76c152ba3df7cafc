"""Dependencies of `mlflow_ingress`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml.contents import mlflow, trackers
from fuseml.runtime import cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What taking webhooks needs from the outside. `now` is Unix time in seconds; `zone` is the control plane's own."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    now: Callable[[], float]
    zone: str = ""
    tracking: trackers.Connect = mlflow.Tracking
