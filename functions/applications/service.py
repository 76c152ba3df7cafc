"""Use cases of `applications`. A change is committed first; then the serving applies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlmodel

from functions.applications.deps import Deps
from fuseml import servings
from fuseml.domain import application, errors
from fuseml.domain.registry import custody, extension
from fuseml.runtime import auth, clock
from fuseml.servings import ServingSpec, Status
from fuseml.store import applications, model_addresses, paging
from fuseml.usecases import model_digests, ownership

_TrafficRule = Callable[[ServingSpec, list[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class ApplicationView:
    """An application, the models of its revisions, the moving address of its model, and its observed state if FuseML serves it."""

    row: applications.Application
    models: Mapping[int, str | None] = field(default_factory=dict)
    address: model_addresses.ModelAddress | None = None
    status: Status | None = None


def page(deps: Deps, limit: int, cursor: str | None, *, type: str | None, workflow: str | None) -> paging.Slice[ApplicationView]:
    """A page of applications."""
    with deps.store.read() as session:
        rows = applications.page(session, paging.Page(limit, cursor), type=type, workflow=workflow)
        # The status needs no secret, so they stay sealed.
        specs = [servings.serving_spec(session, row, str) for row in rows.rows]
        addresses = model_addresses.of(session, rows.rows)
    statuses = _statuses(deps, [spec for spec in specs if spec is not None])
    views = [
        ApplicationView(row, _models(spec), addresses.get(row.name), statuses.get(row.name))
        for row, spec in zip(rows.rows, specs, strict=True)
    ]
    return paging.Slice(views, rows.next_cursor)


def put(deps: Deps, registered: application.Registration, caller: auth.Caller) -> ApplicationView:
    """Register or replace an application. Raises InvalidError when no serving or model server can serve it, ForbiddenError when a step claims another
    origin than its own, ConflictError for an application of another owner.
    """
    if caller.step is not None:
        registered = ownership.of_step(registered, caller.step)
    serving = servings.select(deps.serving, registered.served_by) if registered.model else None
    if serving is not None:
        registered.served(serving.servers)
    with deps.store.write() as session:
        before = applications.find(session, registered.name)
        if before is not None:
            registered = ownership.replacing(registered, before.document)
        digest = model_digests.expected(session, registered.project, registered.model, registered.digest)
        registered = registered.model_copy(update={"digest": digest})
        document = _document(deps, registered, before.document if before else {})
        row = applications.put(session, registered.name, document, clock.now())
        if registered.moving:
            model_addresses.note(session, row, registered.moving, follow=registered.follow)
        else:
            model_addresses.forget(session, row.name)
        view, spec = _view(deps, session, row)
        if serving is not None and spec is not None:
            serving.check(spec)
    if serving is None or spec is None:
        return view
    serving.apply(spec)
    return _observed(deps, spec, view)


def get(deps: Deps, name: str, caller: auth.Caller) -> ApplicationView:
    """Raises NotFoundError, and ForbiddenError for a step that it does not belong to, known or not."""
    if caller.step is not None:
        with deps.store.read() as session:
            row = applications.find(session, name)
        ownership.check_step(row.document if row else None, name, caller.step)
    view, spec = _read(deps, name)
    return _observed(deps, spec, view) if spec is not None else view


def delete(deps: Deps, name: str) -> None:
    """Stop serving the application, and delete it. Raises NotFoundError."""
    view, spec = _read(deps, name)
    serving = deps.serving.get(view.row.document["served_by"]) if spec is not None else None
    if serving is not None:
        serving.remove(name)
    with deps.store.write() as session:
        applications.delete(session, name)
        model_addresses.forget(session, name)


def route(deps: Deps, name: str, shares: Mapping[str, int]) -> ApplicationView:
    """Split the requests. Raises NotFoundError, InvalidError."""
    return _route(deps, name, lambda _, servable: application.shares(shares, servable))


def roll_back(deps: Deps, name: str) -> ApplicationView:
    """Send all requests to the previous revision. Raises NotFoundError, and ConflictError when there is none."""
    return _route(deps, name, lambda spec, servable: application.rolled_back(spec.traffic, servable))


def publish(deps: Deps, name: str, *, public: bool) -> ApplicationView:
    """Open the application to everybody who reaches its address, or close it. Raises NotFoundError."""
    with deps.store.write() as session:
        row = applications.get(session, name)
        applications.record_location(session, name, {"public": public})
        view, spec = _view(deps, session, row)
    serving = deps.serving.get(row.document["served_by"])
    if spec is None or serving is None:
        return view
    serving.apply(spec)
    return _observed(deps, spec, view)


def _route(deps: Deps, name: str, rule: _TrafficRule) -> ApplicationView:
    view, spec = _read(deps, name)
    if spec is None:
        raise errors.ConflictError(f"application {name!r} has no model that FuseML serves, so FuseML cannot route its requests")
    serving = servings.select(deps.serving, spec.newest.document.served_by)
    traffic = rule(spec, sorted(serving.servable(spec)))
    serving.check(replace(spec, traffic=traffic))
    with deps.store.write() as session:
        row = applications.get(session, name)
        if row.revision != view.row.revision:
            raise errors.ConflictError(
                f"application {name!r} was replaced by revision {row.revision} meanwhile; check that revision and try again"
            )
        applications.route(session, row, traffic, clock.now())
        view, routed = _view(deps, session, row)
    if routed is None:
        return view
    serving.apply(routed)
    return _observed(deps, routed, view)


def _read(deps: Deps, name: str) -> tuple[ApplicationView, ServingSpec | None]:
    with deps.store.read() as session:
        return _view(deps, session, applications.get(session, name))


def _view(deps: Deps, session: sqlmodel.Session, row: applications.Application) -> tuple[ApplicationView, ServingSpec | None]:
    spec = servings.serving_spec(session, row, deps.keyring.unseal)
    return ApplicationView(row, _models(spec), model_addresses.find(session, row)), spec


def _models(spec: ServingSpec | None) -> dict[int, str | None]:
    return {revision.number: revision.document.model for revision in spec.revisions} if spec is not None else {}


def _statuses(deps: Deps, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
    statuses: dict[str, Status] = {}
    for served_by, serving in deps.serving.items():
        own = [spec for spec in specs if spec.newest.document.served_by == served_by]
        try:
            statuses |= serving.statuses(own) if own else {}
        except errors.FusemlError as error:
            statuses |= {spec.name: _unknown(error) for spec in own}
    return statuses


def _unknown(error: errors.FusemlError) -> Status:
    return Status("starting", f"its status is not known: {error.message}")


def _observed(deps: Deps, spec: ServingSpec, view: ApplicationView) -> ApplicationView:
    """The view with the observed state; a new address is stored."""
    serving = deps.serving.get(spec.newest.document.served_by)
    if serving is None:
        return view
    try:
        status = serving.status(spec)
        if status.due:
            serving.apply(spec)
        path = spec.newest.document.served(serving.servers).path(status.model or spec.name)
    except errors.FusemlError as error:
        return replace(view, status=_unknown(error))
    location = {
        "url": status.url + path if status.url else view.row.document["url"],
        "k8s_namespace": status.namespace,
        "k8s_resources": [resource.model_dump() for resource in status.resources],
    }
    row = view.row
    if any(row.document.get(key) != value for key, value in location.items()):
        with deps.store.write() as session:
            row = applications.record_location(session, spec.name, location) or row
    return replace(view, row=row, status=status)


def _document(deps: Deps, registered: application.Application, before: Mapping[str, Any]) -> dict[str, Any]:
    """The document to store: secrets sealed, unchanged ones as stored, and the fields that only the serving determines."""
    document = registered.model_dump(mode="json", exclude=set(application.NOT_STORED))
    stored: dict[str, str] = before.get("environment") or {}
    hidden = sorted(name for name, value in registered.environment.items() if value == extension.HIDDEN and name not in stored)
    if hidden:
        raise errors.InvalidError(f"environment: no stored value for {', '.join(hidden)}; send the value instead of {extension.HIDDEN}")
    moved = {name: (str(before.get(name) or ""), str(getattr(registered, name) or "")) for name in ("tracking_uri", "runtime", "served_by")}
    custody.expect_environment(stored, registered.environment, deps.keyring.unseal, moved)

    def sealed(name: str, value: str) -> str:
        kept = name in stored and (value == extension.HIDDEN or deps.keyring.unseal(stored[name]) == value)
        return stored[name] if kept else deps.keyring.seal(value)

    document["environment"] = {name: sealed(name, value) for name, value in registered.environment.items()}
    document["public"] = bool(before.get("public")) if registered.public is None else registered.public
    for field_name in ("url", "k8s_namespace", "k8s_resources"):
        document[field_name] = document[field_name] or before.get(field_name) or document[field_name]
    return document
