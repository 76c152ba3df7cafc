"""The application of `housekeeper`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import flask

from functions.housekeeper import service
from fuseml import engines, githosts, probes
from fuseml.domain import events
from fuseml.runtime import clock, cloudevents, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the sweep needs from the outside.

    `now` is what schedules go by. `retention_days` is how long handled events are remembered. What is registered gets probed by
    `check` every `health_interval` seconds; `zone` is the control plane's own.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    engine: engines.Engine
    keyring: secrets.Keyring
    zone: str = ""
    now: Callable[[], str] = clock.now
    check: probes.Check = probes.check
    health_interval: float = 300
    retention_days: int = 30


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("housekeeper", "Repairs what was lost", tokens=None, store=deps.store)
    # The tick itself changes nothing: the sweep runs after it, step by step, each step a transaction of its own.
    cloudevents.Receiver(api, deps.store, deps.publisher, {events.TICK: cloudevents.nothing}, after=functools.partial(service.sweep, deps))
    return api.app
