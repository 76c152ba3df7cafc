"""The parts of the embedded server and how they hang together: every function's `Deps`, filled with the stand-ins."""

from __future__ import annotations

import contextlib
import functools
import logging
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flask

from functions.applications import app as applications_app
from functions.applications import deps as applications_deps
from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from functions.codesets import app as codesets_app
from functions.codesets import deps as codesets_deps
from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.events import app as events_app
from functions.events import deps as events_deps
from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from functions.gitea_ingress import app as gitea_ingress_app
from functions.gitea_ingress import deps as gitea_ingress_deps
from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.mlflow_ingress import app as mlflow_ingress_app
from functions.mlflow_ingress import deps as mlflow_ingress_deps
from functions.resolver import app as resolver_app
from functions.resolver import deps as resolver_deps
from functions.run_tracker import app as run_tracker_app
from functions.run_tracker import deps as run_tracker_deps
from functions.runs import app as runs_app
from functions.runs import deps as runs_deps
from functions.workflows import app as workflows_app
from functions.workflows import deps as workflows_deps
from fuseml.contents import filesystem
from fuseml.domain import application, errors, events, plans
from fuseml.embedded import broker, model_servers, mount, redelivery, serving, tracking, triggers
from fuseml.embedded import chaos as misbehaviour
from fuseml.engines import local
from fuseml.githosts import payload, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock, cloudevents, secrets
from fuseml.servings import record
from fuseml.store import codesets, database, webhooks

_log = logging.getLogger("fuseml.server")
_TICK_SECONDS = 10.0
_HEALTH_SECONDS = 60.0
_IDLE_SECONDS = 900.0
_NAMESPACE = "fuseml-workloads"
# What steps and model servers may see of the server's own environment.
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the server is made of."""

    gateway: mount.Gateway
    broker: broker.Broker
    engine: local.LocalEngine
    apps: model_servers.ModelServers
    tracking: tracking.TrackingServer
    ticker: Ticker
    state: Callable[[], dict[str, Any]]
    database: database.Database

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start everything, what was left over from before included; at the end stop it, running steps included, and wait for it."""
        with contextlib.ExitStack() as started:
            started.callback(self.database.close)
            # Nobody else is about to publish it: this is the only process.
            cloudevents.sweep(self.database, self.broker, clock.now())
            for part in (self.tracking, self.broker, self.engine, self.apps, self.ticker):
                part.start()
                started.callback(part.stop)
            yield


class Ticker:
    """Stands in for the PingSource: an event at once, and then one every few seconds."""

    def __init__(self, publish: Callable[[events.Event], None]) -> None:
        self._publish, self._stopping = publish, threading.Event()
        self._thread = threading.Thread(target=self._tick, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End and wait."""
        self._stopping.set()
        self._thread.join()

    def _tick(self) -> None:
        while True:
            moment = clock.now()
            try:
                self._publish(events.Event(events.TICK, "/embedded/pingsources/housekeeper", f"tick:{moment}", None, moment, {}))
            except errors.TemporaryError as error:
                _log.warning("a tick was lost: %s", error.message)
            if self._stopping.wait(_TICK_SECONDS):
                return


def compose(
    home: pathlib.Path,
    url: str,
    token: str,
    *,
    mlflow: str,
    anonymous: bool,
    environment: Mapping[str, str],
    chaos: misbehaviour.Chaos = misbehaviour.NONE,
) -> Parts:
    """Make every part for a server at `url`, with its state under `home`. Starts nothing. Raises PermanentError."""
    store = database.Database(f"sqlite:///{home / 'fuseml.db'}")
    store.migrate()
    keys = secrets.KeyFile(home / "keys")
    keyring = keys.keyring()
    workload_token = keyring.derive(record.WORKLOAD_TOKEN)
    known = {auth.digest_of(token): auth.Caller("admin", "admin"), auth.digest_of(workload_token): auth.Caller("workload", "workload")}
    tokens = auth.Tokens(known, anonymous=anonymous)
    inherited = {name: value for name, value in environment.items() if name in _INHERITED}

    git_root = home / "git"
    git_root.mkdir(exist_ok=True)
    git = EmbeddedGitHost(git_root, f"{url}/git")
    git.remove_stale_locks()
    functions: dict[str, flask.Flask] = {}
    subscribers = {function.service: _subscriber(functions, function.name) for function in catalog.FUNCTIONS if function.events}
    contract = contract_folder()
    wanted = triggers.load(contract / "triggers", redelivery.of_broker(contract / "broker.yaml"))
    queue = broker.Broker(store, wanted, subscribers, chaos=chaos)
    engine = local.LocalEngine(
        root=home / "runs",
        emit=chaos.source(queue.publish),
        checkout=functools.partial(_checkout, git),
        seal=lambda secret: keyring.seal(secret.decode()).encode(),
        unseal=lambda sealed: keyring.unseal(sealed.decode()).encode(),
        environments=home / "environments",
        environment=inherited,
    )
    kept = filesystem.FileContents(home / "contents")
    apps = model_servers.ModelServers(
        store,
        home / "apps",
        runtimes=home / "environments",
        environment={**inherited, "MLFLOW_DISABLE_TELEMETRY": "true"},
        unseal=keyring.unseal,
        idle=_IDLE_SECONDS,
    )
    served = {application.BUILT_IN: serving.EmbeddedServing(apps, url)}
    functions |= {
        "extensions": extensions_app.create_app(
            extensions_deps.Deps(
                store=store,
                publisher=queue,
                keyring=keyring,
                tokens=tokens,
                public_url=url,
                renew=functools.partial(keys.renew, keyring),
            )
        ),
        "resolver": resolver_app.create_app(resolver_deps.Deps(store=store, tokens=tokens, zone="")),
        "codesets": codesets_app.create_app(codesets_deps.Deps(store=store, publisher=queue, git=git, keyring=keyring, tokens=tokens)),
        "workflows": workflows_app.create_app(
            workflows_deps.Deps(store=store, publisher=queue, git=git, tokens=tokens, public_url=url, zone="", namespace=_NAMESPACE)
        ),
        "runs": runs_app.create_app(
            runs_deps.Deps(
                store=store,
                publisher=queue,
                engine=engine,
                contents=kept,
                tokens=tokens,
                public_url=url,
                zone="",
                namespace=_NAMESPACE,
            )
        ),
        "applications": applications_app.create_app(applications_deps.Deps(store=store, tokens=tokens, keyring=keyring, serving=served)),
        "artifacts": artifacts_app.create_app(artifacts_deps.Deps(store=store, publisher=queue, tokens=tokens)),
        "events": events_app.create_app(events_deps.Deps(store=store, publisher=queue, tokens=tokens, queued=True)),
        "gitea_ingress": gitea_ingress_app.create_app(gitea_ingress_deps.Deps(store=store, publisher=queue, keyring=keyring)),
        "mlflow_ingress": mlflow_ingress_app.create_app(
            mlflow_ingress_deps.Deps(store=store, publisher=queue, keyring=keyring, now=time.time)
        ),
        "dispatcher": dispatcher_app.create_app(
            dispatcher_deps.Deps(store=store, publisher=queue, git=git, engine=engine, keyring=keyring, zone="", namespace=_NAMESPACE)
        ),
        "run_tracker": run_tracker_app.create_app(run_tracker_deps.Deps(store=store, publisher=queue)),
        "housekeeper": housekeeper_app.create_app(
            housekeeper_deps.Deps(
                store=store,
                publisher=queue,
                git=git,
                engine=engine,
                contents=kept,
                keyring=keyring,
                health_interval=_HEALTH_SECONDS,
            )
        ),
    }
    for name in ("gitea_ingress", "mlflow_ingress"):
        functions[name].wsgi_app = chaos.webhooks(functions[name].wsgi_app)  # type: ignore[method-assign, assignment]
    smart = smart_http.SmartHttp(
        git,
        authorise=functools.partial(_authorise, keyring, tokens),
        deliver=functools.partial(_deliver, functions["gitea_ingress"]),
        secret=functools.partial(_webhook_secret, store, keyring),
    )
    tracked = tracking.TrackingServer(
        home,
        webhook_url=f"{url}/webhooks/mlflow/{tracking.EXTENSION}",
        webhook_secret=functools.partial(_tracker_secret, store, keyring),
        environment=inherited,
        mode=mlflow,
    )

    def state() -> dict[str, Any]:
        mlflow_state = {
            key: value
            for key, value in (("status", tracked.state.status), ("url", tracked.state.url), ("message", tracked.state.message))
            if value
        }
        return {"status": "ready", "components": {"mlflow": mlflow_state}}

    record.register(store, keyring, url, f"{url}/apps")
    own = mount.own_app(apps, functions, tokens, state, store)
    return Parts(
        gateway=mount.Gateway(functions, smart, own),
        broker=queue,
        engine=engine,
        apps=apps,
        tracking=tracked,
        ticker=Ticker(queue.publish),
        state=state,
        database=store,
    )


def contract_folder() -> pathlib.Path:
    """The event contract: `eventing/` in a source tree, packaged beside the library otherwise."""
    packaged = pathlib.Path(__file__).parents[1] / "eventing"
    return packaged if packaged.exists() else pathlib.Path(__file__).parents[3] / "eventing"


def _subscriber(functions: Mapping[str, flask.Flask], name: str) -> broker.Subscriber:
    return lambda headers, body: mount.call(functions[name], "POST", "/", headers, body)


def _checkout(git: EmbeddedGitHost, wanted: plans.Checkout, directory: pathlib.Path) -> None:
    git.export(wanted.project, wanted.codeset, wanted.commit, directory)


def _authorise(keyring: secrets.Keyring, tokens: auth.Tokens, project: str, codeset: str, _username: str, password: str) -> bool:
    """A codeset's own push password, or an administrator's API token."""
    if secrets.same(password, keyring.git_password(project, codeset)):
        return True
    try:
        return tokens.caller(f"Bearer {password}").role == "admin"
    except errors.UnauthenticatedError:
        return False


def _deliver(ingress: flask.Flask, delivery: payload.Delivery) -> None:
    answer = mount.call(ingress, "POST", "/webhooks/gitea", delivery.headers, delivery.body)
    if answer.status >= 300:
        raise errors.TemporaryError(f"the webhook {delivery.id} of {delivery.project}/{delivery.codeset} was answered with {answer.status}")


def _webhook_secret(store: database.Database, keyring: secrets.Keyring, project: str, codeset: str) -> str:
    with store.read() as session:
        return keyring.unseal(codesets.codeset(session, project, codeset).webhook_secret)


def _tracker_secret(store: database.Database, keyring: secrets.Keyring) -> str:
    """What the embedded MLflow signs with; made when it is missing, because it delivers before anybody registers it."""
    with store.read() as session:
        sealed = [*webhooks.of_tracker(session, tracking.EXTENSION, clock.now())]
    if not sealed:
        sealed = [keyring.seal(secrets.new_webhook_secret())]
        with store.write() as session:
            webhooks.replace_of_tracker(session, tracking.EXTENSION, sealed[0], clock.ahead(secrets.WEBHOOK_OVERLAP))
    return keyring.unseal(sealed[0])
