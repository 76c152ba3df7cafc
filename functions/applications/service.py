"""Use cases of `applications`. What is wanted is committed first; then whoever serves the application is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlmodel

from functions.applications.deps import Deps
from fuseml import servings
from fuseml.domain import application, errors
from fuseml.domain.registry import extension
from fuseml.runtime import clock
from fuseml.servings import ServingSpec as Wanted
from fuseml.servings import Status
from fuseml.store import applications, paging

_Choice = Callable[[Wanted, list[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Shown:
    """An application, the models of the revisions that get requests, and how it is served where somebody looked."""

    row: applications.Application
    models: Mapping[int, str | None] = field(default_factory=dict)
    status: Status | None = None


def page(deps: Deps, limit: int, cursor: str | None, *, type: str | None, workflow: str | None) -> paging.Slice[Shown]:
    """A page of applications; nobody looks how they are served."""
    with deps.store.read() as session:
        found = applications.page(session, paging.Page(limit, cursor), type=type, workflow=workflow)
        return paging.Slice([Shown(row, _models(session, row)) for row in found.rows], found.next_cursor)


def put(deps: Deps, registered: application.Application) -> Shown:
    """Register or replace. Raises InvalidError when nobody can serve it."""
    serving = servings.chosen(deps.serving, registered.served_by) if registered.model else None
    with deps.store.write() as session:
        before = applications.find(session, registered.name)
        document = _document(deps, registered, before.document if before else {})
        row = applications.put(session, registered.name, document, clock.now())
        wanted = servings.serving_spec(session, row, deps.keyring.unseal)
        shown = Shown(row, _models(session, row))
    if serving is None or wanted is None:
        return shown
    serving.apply(wanted)
    return _seen(deps, wanted, shown)


def get(deps: Deps, name: str) -> Shown:
    """Raises NotFoundError."""
    shown, wanted = _read(deps, name)
    return _seen(deps, wanted, shown) if wanted is not None else shown


def delete(deps: Deps, name: str) -> None:
    """Stop serving it, and forget it. Raises NotFoundError."""
    shown, wanted = _read(deps, name)
    serving = deps.serving.get(shown.row.document["served_by"]) if wanted is not None else None
    if serving is not None:
        serving.remove(name)
    with deps.store.write() as session:
        applications.delete(session, name)


def route(deps: Deps, name: str, shares: Mapping[str, int]) -> Shown:
    """Share the requests. Raises NotFoundError, InvalidError."""
    return _route(deps, name, lambda _, servable: application.shares(shares, servable))


def roll_back(deps: Deps, name: str) -> Shown:
    """Back to the revision before. Raises NotFoundError, ConflictError when there is none."""
    return _route(deps, name, lambda wanted, servable: application.rolled_back(wanted.traffic, servable))


def _route(deps: Deps, name: str, choose: _Choice) -> Shown:
    shown, wanted = _read(deps, name)
    if wanted is None:
        raise errors.ConflictError(f"application {name!r} has no model that FuseML serves, so it cannot say where requests go")
    serving = servings.chosen(deps.serving, wanted.newest.document.served_by)
    traffic = choose(wanted, sorted(serving.servable(wanted)))
    if len(traffic) > 1 and not serving.splits:
        raise errors.InvalidError(
            "requests cannot be shared here: the embedded server serves one revision at a time; give 100 percent to one of them"
        )
    with deps.store.write() as session:
        row = applications.get(session, name)
        if row.revision != shown.row.revision:
            raise errors.ConflictError(f"application {name!r} was replaced by revision {row.revision} meanwhile; look at it and try again")
        applications.route(session, row, traffic, clock.now())
        changed = servings.serving_spec(session, row, deps.keyring.unseal)
        shown = Shown(row, _models(session, row))
    if changed is None:
        return shown
    serving.apply(changed)
    return _seen(deps, changed, shown)


def _read(deps: Deps, name: str) -> tuple[Shown, Wanted | None]:
    with deps.store.read() as session:
        row = applications.get(session, name)
        return Shown(row, _models(session, row)), servings.serving_spec(session, row, deps.keyring.unseal)


def _models(session: sqlmodel.Session, row: applications.Application) -> dict[int, str | None]:
    if list(row.traffic) == [str(row.revision)]:
        return {row.revision: row.document.get("model")}
    return {former.revision: former.document.get("model") for former in applications.revisions(session, row.name)}


def _seen(deps: Deps, wanted: Wanted, shown: Shown) -> Shown:
    """How it is served now; its address is noted when it has become known."""
    serving = deps.serving.get(wanted.newest.document.served_by)
    if serving is None:
        return shown
    try:
        status = serving.status(wanted)
    except errors.FusemlError as error:
        return Shown(shown.row, shown.models, Status("starting", f"how it is served is not known: {error.message}"))
    found = {
        "url": f"{status.url}/v2/models/{wanted.name}/infer" if status.url else shown.row.document["url"],
        "k8s_namespace": status.namespace,
        "k8s_resources": [resource.model_dump() for resource in status.resources],
    }
    if any(shown.row.document.get(key) != value for key, value in found.items()):
        with deps.store.write() as session:
            located = applications.located(session, wanted.name, found)
        shown = Shown(located or shown.row, shown.models)
    return Shown(shown.row, shown.models, status)


def _document(deps: Deps, registered: application.Application, before: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored: secrets sealed, unchanged ones as they are, and what only the serving knows as it was."""
    document = registered.model_dump(mode="json")
    known: dict[str, str] = before.get("environment") or {}
    hidden = sorted(name for name, value in registered.environment.items() if value == extension.HIDDEN and name not in known)
    if hidden:
        raise errors.InvalidError(f"nothing is stored that could stay as it is for {', '.join(hidden)}")

    def sealed(name: str, value: str) -> str:
        kept = name in known and (value == extension.HIDDEN or deps.keyring.unseal(known[name]) == value)
        return known[name] if kept else deps.keyring.seal(value)

    document["environment"] = {name: sealed(name, value) for name, value in registered.environment.items()}
    for learned in ("url", "k8s_namespace", "k8s_resources"):
        document[learned] = document[learned] or before.get(learned) or document[learned]
    return document
