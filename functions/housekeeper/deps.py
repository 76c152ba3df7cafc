"""Dependencies of `housekeeper`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fuseml import contents, engines, githosts, probes, servings
from fuseml.contents import mlflow, trackers
from fuseml.exports import openlineage
from fuseml.githosts import origins
from fuseml.platform import Platform
from fuseml.runtime import clock, cloudevents, secrets, signing
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import database
from fuseml.usecases import retention


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The database, the broker, the keys of events, the git host, the engine, the contents, the keyring and the servings of the sweep.

    `now` is the clock of schedules. A tick within `pause` seconds after the begin of a sweep is ignored. Handled events are kept for
    `retention_days`. `check` probes each registered tool every `health_interval` seconds; `zone` is the control plane's own. Moving addresses
    of models are compared every `address_interval` seconds. The logs of steps move to `contents`, if any, and stay for `log_days`; the engine
    forgets a finished run after `engine_days`, 0 is never, or without a number as soon as its logs are there. `conditions` are the known
    faults. Steps register applications at `api_url`; it is empty where the registry has the address already. `lineage` receives the lineage of
    runs, if any, as jobs of `lineage_namespace` with links to `public_url`; it is left alone for `lineage_pause` seconds after a failure.
    Policies of retention are applied every `retention_interval` seconds, contents go `contents_grace` seconds after their artifact, and
    leftovers of uploads are looked for every `leftovers_interval` seconds. `origin_hosts` makes the clients of the hosts of origins; a codeset
    follows its origin every `origin_interval` seconds without a report, too. `sweeping` is held during a sweep.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    signer: signing.Signer
    git: githosts.GitHost
    engine: engines.Engine
    contents: contents.Contents | None = None
    keyring: secrets.Keyring
    zone: str = ""
    serving: servings.Servings = field(default_factory=dict)
    api_url: str = ""
    tracking: trackers.Connect = mlflow.Tracking
    pause: float = 0.0
    now: Callable[[], str] = clock.now
    check: probes.Check = probes.check
    health_interval: float = 300
    address_interval: float = 30
    retention_days: int = 30
    engine_days: int | None = 7
    log_days: int = 365
    conditions: Conditions = field(default_factory=Conditions)
    lineage: openlineage.Receiver | None = None
    lineage_namespace: str = "fuseml"
    lineage_pause: float = 60
    public_url: str = ""
    retention_interval: float = 3600
    contents_grace: float = retention.CONTENTS_GRACE
    leftovers_interval: float = 86_400
    origin_hosts: origins.Connect = origins.connect
    origin_interval: float = 300
    sweeping: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, platform: Platform) -> Deps:
        """The dependencies that the platform has."""
        settings = platform.housekeeping
        return cls(
            store=platform.store,
            publisher=platform.publisher,
            signer=platform.signer,
            git=platform.git,
            engine=platform.engine,
            contents=platform.contents,
            keyring=platform.keyring,
            zone=platform.zone,
            serving=platform.serving,
            pause=settings.sweep_pause,
            health_interval=settings.health_interval,
            engine_days=settings.engine_days,
            log_days=settings.log_days,
            api_url=settings.api_url,
            tracking=platform.connect_tracking,
            lineage=platform.lineage,
            lineage_namespace=settings.lineage_namespace,
            public_url=platform.public_url,
        )
