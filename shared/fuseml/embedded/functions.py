"""Every function of the catalogue in one process, on the stand-ins."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flask

from fuseml import exports, servings
from fuseml.contents import Contents, mlflow, trackers
from fuseml.domain import application
from fuseml.embedded import serving
from fuseml.embedded.stand_ins import StandIns
from fuseml.embedded.state import State
from fuseml.engines import Engine
from fuseml.exports.openlineage import Receiver
from fuseml.githosts import GitHost
from fuseml.platform import Housekeeping, Platform
from fuseml.runtime import attestation, auth, catalog, cloudevents
from fuseml.runtime.cloudevents import Publisher
from fuseml.runtime.secrets import Keyring
from fuseml.runtime.settings import Settings
from fuseml.runtime.signing import Signer
from fuseml.servings import Servings
from fuseml.store import database

_HEALTH_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The embedded server's `Platform`."""

    store: database.Database
    publisher: Publisher
    signer: Signer
    tokens: auth.Tokens
    keyring: Keyring
    renew_keys: Callable[[], None]
    git: GitHost
    engine: Engine
    contents: Contents
    serving: Servings
    public_url: str
    tracking_url: str
    connect_tracking: trackers.Connect
    housekeeping: Housekeeping
    attestor: attestation.Attestor
    lineage: Receiver | None
    clones: bool = False
    queued: bool = True
    zone: str = ""
    namespace: str = "fuseml-workloads"


def platform(state: State, parts: StandIns, url: str, settings: Settings) -> Platform:
    """The platform of a server at `url`. Raises PermanentError for a wrong setting."""
    return Embedded(
        store=state.store,
        publisher=cloudevents.SigningPublisher(parts.broker, state.signer),
        signer=state.signer,
        tokens=state.tokens,
        keyring=state.keyring,
        renew_keys=state.renew_keys,
        git=parts.git,
        engine=parts.engine,
        contents=parts.contents,
        serving={
            application.BUILT_IN: serving.EmbeddedServing(parts.model_servers, url),
            **servings.connect_plugins(servings.Settings(settings.namespace, settings.serving_image)),
        },
        public_url=url,
        tracking_url=parts.tracking.url,
        connect_tracking=functools.partial(_connect, parts.tracking.url, parts.processes.grant()),
        housekeeping=Housekeeping(health_interval=_HEALTH_SECONDS, lineage_namespace=settings.openlineage_namespace),
        attestor=attestation.connect(settings) or attestation.Attestor.derived(state.keyring.derive("provenance")),
        lineage=exports.connect(settings),
        zone=settings.zone,
    )


def _connect(own: str, token: str, url: str, credentials: Mapping[str, str]) -> mlflow.Tracking:
    """A client of a tracking server; with a token of this process for the server that runs here."""
    return mlflow.Tracking(url, credentials or ({"MLFLOW_TRACKING_TOKEN": token} if own and url.rstrip("/") == own else {}))


def create(platform: Platform) -> dict[str, flask.Flask]:
    """The application of each function, by the function's name."""
    return {function.name: _application(function, platform) for function in catalog.FUNCTIONS}


def _application(function: catalog.Function, platform: Platform) -> flask.Flask:
    deps = importlib.import_module(f"functions.{function.name}.deps")
    app = importlib.import_module(f"functions.{function.name}.app")
    made: flask.Flask = app.create_app(deps.Deps.of(platform))
    return made
