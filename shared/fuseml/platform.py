"""The platform that functions run on: the dependencies that a function picks in its `Deps.of`.

Two platforms exist: `Knative`, made of settings, and the embedded server's. A dependency of `Knative` is made at its first use and
connects at its own first use; its packages (cryptography, Kubernetes, ...) are imported for the functions that need them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fuseml.runtime import auth
from fuseml.runtime.readiness import Need
from fuseml.store import database

if TYPE_CHECKING:
    from fuseml.contents import Contents
    from fuseml.contents.trackers import Connect
    from fuseml.engines import Engine
    from fuseml.exports.openlineage import Receiver
    from fuseml.githosts import GitHost
    from fuseml.runtime.attestation import Attestor
    from fuseml.runtime.cloudevents import Publisher
    from fuseml.runtime.secrets import Keyring
    from fuseml.runtime.settings import Settings
    from fuseml.runtime.signing import Signer
    from fuseml.servings import Servings


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeping:
    """Settings of the sweep: the least pause between two sweeps and the interval between two probes of a tool, in seconds; days until a run
    is forgotten by the engine (without a number as soon as its logs are kept) and its logs are removed, 0 for never; the address at which
    steps register applications, empty where the registry has it already; the namespace of jobs in exported lineage.
    """

    sweep_pause: float = 30
    health_interval: float = 300
    engine_days: int | None = 7
    log_days: int = 365
    api_url: str = ""
    lineage_namespace: str = "fuseml"


class Platform(Protocol):
    """Each property raises PermanentError where a setting is missing or wrong."""

    @property
    def store(self) -> database.Database: ...

    @property
    def publisher(self) -> Publisher:
        """Signs the events of FuseML's types."""

    @property
    def signer(self) -> Signer: ...

    @property
    def tokens(self) -> auth.Tokens: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def renew_keys(self) -> Callable[[], None] | None:
        """Puts a fresh key into the keyring, where the server keeps its keys itself; None where they are configured."""

    @property
    def git(self) -> GitHost: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def clones(self) -> bool:
        """Whether the engine clones codesets over the network, and so needs an account for each."""

    @property
    def contents(self) -> Contents | None:
        """The logs of finished runs; None where they stay with the engine."""

    @property
    def serving(self) -> Servings: ...

    @property
    def zone(self) -> str:
        """The control plane's own zone, in which the engine runs steps."""

    @property
    def namespace(self) -> str:
        """The namespace of the workloads."""

    @property
    def public_url(self) -> str:
        """The API's base address, as users, steps and senders of webhooks see it."""

    @property
    def tracking_url(self) -> str:
        """The address of the tracking server that this server runs itself; empty without one. Steps open it with their own tokens."""

    @property
    def connect_tracking(self) -> Connect:
        """Makes clients of tracking servers; those of its own server need no credentials of a record."""

    @property
    def queued(self) -> bool:
        """Whether the deliveries in the store are the broker's queue."""

    @property
    def attestor(self) -> Attestor | None:
        """Signs the provenance of artifacts; None without a key."""

    @property
    def lineage(self) -> Receiver | None:
        """The endpoint that receives the lineage of runs; None without one."""

    @property
    def housekeeping(self) -> Housekeeping: ...


class Knative:
    """The platform of a pod. Nothing is read of `settings` before the function picks the dependency.

    `needs` are the dependencies that were picked and that `/readyz` checks. A function stays ready while the broker is away, because its
    events wait in the outbox; a broker whose name does not exist is a wrong setting.
    """

    renew_keys = None
    clones = True
    queued = False
    tracking_url = ""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.needs: list[Need] = []

    @functools.cached_property
    def store(self) -> database.Database:
        store = database.Database(self._settings.require("database_url").database_url)
        self.needs.append(Need("database", store.check))
        return store

    @functools.cached_property
    def publisher(self) -> Publisher:
        from fuseml.runtime import broker, cloudevents

        publisher = broker.HttpPublisher(self._settings.require("broker_url").broker_url)
        self.needs.append(Need("broker", publisher.check, outage_tolerated=True))
        return cloudevents.SigningPublisher(publisher, self.signer)

    @functools.cached_property
    def signer(self) -> Signer:
        from fuseml.runtime import signing

        keys = self._settings.require("event_keys").keys_of_events()
        return signing.Signer(lambda: keys, unsigned_until=self._settings.unsigned_until)

    @functools.cached_property
    def tokens(self) -> auth.Tokens:
        return auth.Tokens.parse(self._settings.require("token_hashes").token_hashes)

    @functools.cached_property
    def keyring(self) -> Keyring:
        from fuseml.runtime import secrets

        return secrets.Keyring(self._settings.require("secret_keys").keys())

    @functools.cached_property
    def git(self) -> GitHost:
        from fuseml import githosts

        settings = self._settings.require("git_url", "git_token", "public_url")
        return githosts.connect(settings.git_url, settings.git_token, settings.public_url)

    @functools.cached_property
    def engine(self) -> Engine:
        from fuseml import engines

        return engines.connect(self._settings)

    @functools.cached_property
    def contents(self) -> Contents | None:
        from fuseml import contents

        return contents.connect(self._settings)

    @property
    def connect_tracking(self) -> Connect:
        from fuseml.contents import mlflow

        return mlflow.Tracking

    @functools.cached_property
    def serving(self) -> Servings:
        from fuseml import servings

        return servings.connect(servings.Settings(self._settings.namespace, self._settings.serving_image, self._settings.mlserver_image))

    @property
    def zone(self) -> str:
        return self._settings.zone

    @property
    def namespace(self) -> str:
        return self._settings.namespace

    @property
    def public_url(self) -> str:
        return self._settings.require("public_url").public_url

    @functools.cached_property
    def attestor(self) -> Attestor | None:
        from fuseml.runtime import attestation

        return attestation.connect(self._settings)

    @functools.cached_property
    def lineage(self) -> Receiver | None:
        from fuseml import exports

        return exports.connect(self._settings)

    @property
    def housekeeping(self) -> Housekeeping:
        return Housekeeping(
            engine_days=self._settings.engine_retention(),
            log_days=self._settings.days("log_days"),
            api_url=self._settings.function_url("applications"),
            lineage_namespace=self._settings.openlineage_namespace,
        )
