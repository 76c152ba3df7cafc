"""Applications whose model has an address that moves, over two tracking servers that answer as the test wants."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from functions.applications import app as applications_app
from functions.applications import deps as applications_deps
from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from fuseml.contents import mlflow
from fuseml.domain import application, errors, events, model_address, model_servers
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock
from fuseml.servings import ServingSpec, Status
from tests import event_keys
from tests.component import extensions_app

DIGESTS = {version: f"sha256:{version * 64}" for version in "12345678"}
WINE = {"name": "wine", "type": "predictor", "workflow": "w", "project": "demo", "tracking_uri": "http://mlflow"}
CHAMPION = "models:/wine@champion"
_numbers = itertools.count()


@dataclass
class Server(mlflow.Tracking):
    """A tracking server: what addresses name, the digests of versions, and `meanwhile`, which happens once after it has answered."""

    names: dict[model_address.Moving, str | None]
    refusal: errors.FusemlError | None = None
    meanwhile: Callable[[], object] | None = None
    asked: int = 0
    digests: dict[str, str] = field(default_factory=lambda: dict(DIGESTS))

    def exact(self, address: model_address.Moving) -> str | None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        answer = self.names.get(address)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return answer

    def model_version(self, name: str, version: str) -> mlflow.ModelVersion:
        return mlflow.ModelVersion(name, version, None, None, {"fuseml.digest": self.digests[version]})

    def newest_versions(self, token: str | None = None) -> tuple[list[mlflow.ModelVersion], str | None]:
        return [], None

    def point(self, version: str, alias: str = "champion") -> None:
        """Move the alias of the model `wine`."""
        self.names[model_address.Alias("wine", alias)] = f"models:/wine/{version}"


@dataclass
class Serving:
    """Remembers the models that it serves."""

    splits = True
    servers: Collection[model_servers.Server] = model_servers.EMBEDDED
    served: dict[str, str | None] = field(default_factory=dict)
    refusals: list[errors.FusemlError] = field(default_factory=list)

    def check(self, spec: ServingSpec) -> None:
        """Everything can be served."""

    def apply(self, spec: ServingSpec) -> None:
        self.served[spec.name] = {revision.number: revision.document.model for revision in spec.revisions}[max(spec.traffic)]

    def remove(self, name: str) -> None:
        self.served.pop(name, None)

    def status(self, spec: ServingSpec) -> Status:
        return Status("ready", "", f"http://{spec.name}", dict(spec.traffic))

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        return {spec.name: self.status(spec) for spec in specs}

    def servable(self, spec: ServingSpec) -> list[int]:
        return [revision.number for revision in spec.revisions]

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        if self.refusals:
            raise self.refusals.pop()
        for spec in specs:
            self.apply(spec)


class World:
    """The functions `applications` and `housekeeper` on one database, with two tracking servers in the registry."""

    def __init__(self, folder: Path) -> None:
        self.registry = extensions_app.Registry(folder)
        self.serving = Serving()
        self.server, self.other = Server({}), Server({})
        self.servers: dict[str, mlflow.Tracking] = {"http://mlflow": self.server, "http://other": self.other}
        for number, url in enumerate(self.servers):
            service = {"id": "tracking", "resource": "mlflow-tracking", "endpoints": [{"url": url}]}
            assert self.registry.client.post("/extensions", json={"id": f"mlflow-{number}", "services": [service]}).status_code == 201
        servings = {application.BUILT_IN: self.serving}
        tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
        store, keyring = self.registry.store, self.registry.keyring
        self.client = applications_app.create_app(
            applications_deps.Deps(store=store, tokens=tokens, keyring=keyring, serving=servings)
        ).test_client()
        engine = local.LocalEngine(
            root=folder / "runs",
            emit=lambda _: None,
            checkout=lambda *_: (),
            seal=bytes,
            unseal=bytes,
            environments=folder / "environments",
        )
        deps = housekeeper_deps.Deps(
            store=store,
            publisher=self.registry.published,
            signer=event_keys.SIGNER,
            git=EmbeddedGitHost(folder, "http://127.0.0.1:1/git"),
            engine=engine,
            keyring=keyring,
            serving=servings,
            tracking=lambda url, _: self.servers[url],
            address_interval=0,
        )
        self.housekeeper = housekeeper_app.create_app(deps).test_client()

    def call(self, method: str, path: str, document: object = None, status: int = 200) -> Any:
        answer = self.client.open(path, method=method, json=document, headers={"Authorization": "Bearer t"})
        assert answer.status_code == status, answer.text
        return answer.json

    def register(self, **fields: object) -> Any:
        return self.call("POST", "/applications", {**WINE, **fields}, 201)

    def get(self, name: str = "wine") -> Any:
        return self.call("GET", f"/applications/{name}")

    def deliver(self, event: events.Event) -> None:
        headers, body = event_keys.encode(event)
        answer = self.housekeeper.post(catalog.EVENTS, headers=headers, data=body)
        assert answer.status_code == 204, answer.text

    def tick(self) -> None:
        self.deliver(events.Event(events.TICK, "/test", f"tick-{next(_numbers)}", None, clock.now(), {}))

    def aliased(self, version: str | None = None, name: str = "wine") -> events.Event:
        payload = events.ModelAliased(extension="mlflow-0", name=name, alias="champion", version=version, delivery=f"d-{next(_numbers)}")
        return events.event(payload, clock.now())


def champion(world: World, version: str, **fields: object) -> Any:
    """The application of the champion, as the predictor step registers it."""
    world.server.point(version)
    return world.register(model=f"models:/wine/{version}", requested=CHAMPION, digest=DIGESTS[version], **fields)
