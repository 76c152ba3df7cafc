"""Dependencies of `housekeeper`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fuseml import contents, engines, githosts, probes, servings
from fuseml.runtime import clock, cloudevents, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the sweep needs from the outside.

    `now` is what schedules go by. `retention_days` is how long handled events are remembered. What is registered gets probed by
    `check` every `health_interval` seconds; `zone` is the control plane's own. The logs of steps go to `contents`, where there are any, and are
    kept for `log_days`; the engine forgets a finished run after `engine_days`; 0 is for ever, and never.
    `api_url` is where steps register applications; empty where the registry has it from somebody else.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    engine: engines.Engine
    contents: contents.Contents | None = None
    keyring: secrets.Keyring
    zone: str = ""
    serving: servings.Servings = field(default_factory=dict)
    api_url: str = ""
    now: Callable[[], str] = clock.now
    check: probes.Check = probes.check
    health_interval: float = 300
    retention_days: int = 30
    engine_days: int = 7
    log_days: int = 365
