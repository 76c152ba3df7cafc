"""The composition of the embedded server: its state, its stand-ins, and every function of the catalogue on both."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flask

from fuseml.domain import errors
from fuseml.embedded import (
    admission,
    artifact_store,
    broker,
    chaos,
    ending,
    functions,
    mount,
    sign_in,
    stand_ins,
    state,
    step_options,
    ticker,
    tracking,
    tracking_address,
    tracking_proxy,
)
from fuseml.githosts import payload, smart_http
from fuseml.runtime import catalog, clock, cloudevents, web_pages
from fuseml.runtime.readiness import Need, Readiness
from fuseml.runtime.settings import Settings
from fuseml.runtime.telemetry import logs
from fuseml.servings import record
from fuseml.store import codesets
from fuseml.usecases import git_access, step_identity

# Each part ends earlier: the engine within 12 seconds, the others within 10.
_STOP_SECONDS = 12.5


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of the server, none of them started."""

    gateway: mount.Gateway
    admissions: admission.Admissions
    stand_ins: stand_ins.StandIns
    ticker: ticker.Ticker
    readiness: Callable[[], dict[str, Any]]
    state: state.State

    @contextlib.contextmanager
    def running(self, stop_requests: Callable[[], None]) -> Iterator[None]:
        """Start all parts, left-over work included; at the end stop them and the requests, and wait for them within a bound."""
        parts = self.stand_ins
        stops: dict[str, Callable[[], None]] = {"requests": stop_requests}
        try:
            # This process is the only one: an event of the outbox has no other publisher.
            cloudevents.sweep(self.state.store, cloudevents.SigningPublisher(parts.broker, self.state.signer), clock.now())
            for name, start, stop in (
                ("mlflow", parts.tracking.start, parts.tracking.stop),
                ("broker", parts.broker.start, parts.broker.stop),
                ("bytecode", parts.bytecode.start, parts.bytecode.stop),
                ("engine", parts.engine.start, parts.engine.stop),
                ("model servers", parts.model_servers.start, parts.model_servers.stop),
                ("environments", parts.environments.start, parts.environments.stop),
                ("ticker", self.ticker.start, self.ticker.stop),
            ):
                start()
                stops[name] = stop
            yield
        finally:
            ending.stop_all(stops, _STOP_SECONDS)
            self.state.store.close()


def compose(
    home: pathlib.Path,
    url: str,
    token: str,
    *,
    mlflow: str,
    anonymous: bool,
    environment: Mapping[str, str],
    steps: step_options.StepOptions | None = None,
    trouble: chaos.Chaos = chaos.NONE,
    host: str = "127.0.0.1",
    public_urls: Sequence[str] = (),
    rotation: logs.Rotation = logs.DEFAULT_ROTATION,
) -> Parts:
    """Make every part of a server at `url`, with its state under `home`. Starts nothing. Raises PermanentError.

    The server listens on `host`; `public_urls` are its other addresses, such as those of a proxy.
    """
    entrance = web_pages.Entrance(host, [url, *public_urls], anonymous=anonymous)
    opened = state.open(home, token, anonymous=anonymous)
    # The broker delivers to the functions and the functions publish to the broker: the table is filled once both exist.
    mounted: dict[str, flask.Flask] = {}
    subscribers = {function.service: _subscriber(mounted, function) for function in catalog.FUNCTIONS if function.events}
    parts = stand_ins.make(
        opened,
        url,
        subscribers,
        mlflow=mlflow,
        environment=environment,
        steps=steps or step_options.StepOptions(),
        trouble=trouble,
        rotation=rotation,
    )
    mounted |= functions.create(functions.platform(opened, parts, url, Settings.known(environment)))
    for name in ("gitea_ingress", "mlflow_ingress"):
        mounted[name].wsgi_app = trouble.webhooks(mounted[name].wsgi_app)  # type: ignore[method-assign, assignment]
    if parts.tracking.url:
        tracking_address.follow(opened.store, home / "mlflow", parts.tracking.url)
    record.register(opened.store, url, f"{url}/apps", [artifact_store.service(home / "artifacts")])
    readiness = functools.partial(_readiness, Readiness([Need("database", opened.store.check)]), parts.tracking)
    accepted = opened.tokens.accepting(functools.partial(step_identity.verify, opened.store, opened.keyring))
    own = mount.own_app(parts.model_servers, mounted, accepted, readiness, opened.store)
    sessions = sign_in.Sessions(opened.tokens, opened.keyring, tracking_proxy.PREFIX)
    tracked = tracking_proxy.TrackingProxy(lambda: parts.tracking.server, accepted, sessions, parts.processes)
    authorise = functools.partial(_authorise, opened)
    git = _smart_http(opened, parts, authorise, mounted["gitea_ingress"], [url, *public_urls])
    return Parts(
        gateway=mount.Gateway(mounted, git, tracked, own, entrance),
        admissions=admission.Admissions(
            accepted, authorise, mounted, tracked.authenticate, functools.partial(mount.is_public, opened.store), git.largest_body
        ),
        stand_ins=parts,
        ticker=ticker.Ticker(lambda tick: parts.broker.publish(opened.signer.sign(tick))),
        readiness=readiness,
        state=opened,
    )


def _subscriber(mounted: Mapping[str, flask.Flask], function: catalog.Function) -> broker.Subscriber:
    return lambda headers, body: mount.call(mounted[function.name], "POST", catalog.EVENTS, headers, body)


def _readiness(checks: Readiness, server: tracking.TrackingServer) -> dict[str, Any]:
    report, status = checks.report(), server.state
    mlflow = {name: value for name, value in (("status", status.status), ("url", status.url), ("message", status.message)) if value}
    return {"status": "ready" if report.ready else "failed", "components": {**report.components, "mlflow": mlflow}}


def _smart_http(
    opened: state.State, parts: stand_ins.StandIns, authorise: smart_http.Authorise, ingress: flask.Flask, urls: Sequence[str]
) -> smart_http.SmartHttp:
    return smart_http.SmartHttp(
        parts.git,
        authorise=authorise,
        deliver=functools.partial(_deliver, ingress),
        secret=opened.codeset_secret,
        urls=urls,
    )


def _authorise(opened: state.State, project: str, codeset: str, _username: str, password: str) -> bool:
    """A codeset's own push password, or an administrator's API token."""
    with opened.store.read() as session:
        row = codesets.find_codeset(session, project, codeset)
    if git_access.is_password(opened.keyring, row, password):
        return True
    try:
        return opened.tokens.bearer(password).role == "admin"
    except errors.PermanentError:
        return False


def _deliver(ingress: flask.Flask, delivery: payload.Delivery) -> None:
    answer = mount.call(ingress, "POST", "/webhooks/gitea", delivery.headers, delivery.body)
    if answer.status >= 300:
        raise errors.TemporaryError(f"the webhook {delivery.id} of {delivery.project}/{delivery.codeset} was answered with {answer.status}")
