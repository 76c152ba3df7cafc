"""HTTP of `applications`."""

from __future__ import annotations

from collections.abc import Mapping

from functions.applications import service
from functions.applications.deps import Deps
from fuseml.domain import application
from fuseml.domain.documents import document
from fuseml.domain.registry import extension
from fuseml.domain.runs import causes
from fuseml.runtime import http, operations
from fuseml.servings import State
from fuseml.usecases import ownership

_LONGEST_CAUSE = 1000
"""Characters. A cause is often a line that the model server has printed, of any length."""


class ApplicationQuery(operations.PageQuery):
    type: str | None = None
    workflow: str | None = None


class Share(document.Model):
    """A revision that gets requests, and its model."""

    revision: int
    percent: int
    model: str | None


class Application(application.Registration):
    """A registered application; `revision` counts its registrations, `traffic` is the desired traffic. `status`, `cause` and `answering`, the
    revisions that answer requests now, are the observed state. They are null for an application that FuseML does not serve; `answering` is
    null also while it is unknown. `requested` is the address from which `model` was resolved; `behind` is the version that it names by now,
    where the application serves another one, and `address_problem` the reason why this is not known.
    """

    revision: int
    traffic: list[Share]
    answering: list[Share] | None = None
    behind: str | None = None
    address_problem: str | None = None
    status: State | None = None
    cause: str | None = None
    created: str
    updated: str


class Split(document.Model):
    """Percent of the requests by revision: its number, `current` or `previous`."""

    traffic: dict[str, int]


class Visibility(document.Model):
    """Whether everybody who reaches the application's address gets predictions; else only the cluster does, and callers with a token."""

    public: bool


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/applications", query=ApplicationQuery, returns=[Application])
    def list_applications(query: ApplicationQuery) -> http.ListPage[Application]:
        """List applications, by name, with their status."""
        views = service.page(deps, query.limit, query.cursor, type=query.type, workflow=query.workflow)
        return http.ListPage([_wire(view) for view in views.rows], views.next_cursor)

    @api.route(
        "POST", "/applications", body=application.Registration, returns=Application, status=201, step=ownership.SCOPE, refusals=(409,)
    )
    def register_application(body: application.Registration) -> Application:
        """Register an application, or replace the one of its name. The former revision answers until the new one is ready.

        An application of another project is not replaced. A step registers applications of its own project, run and codeset only.
        """
        return _wire(service.put(deps, body, http.caller()))

    @api.route("GET", "/applications/<name>", returns=Application, step=ownership.SCOPE)
    def get_application(name: str) -> Application:
        """Show an application, and its status; to a step, one of its own project and codeset."""
        return _wire(service.get(deps, name, http.caller()))

    @api.route("DELETE", "/applications/<name>", status=204)
    def delete_application(name: str) -> None:
        """Delete an application, and stop serving it."""
        service.delete(deps, name)

    @api.route("PUT", "/applications/<name>/traffic", body=Split, returns=Application, refusals=(409,))
    def route_traffic(name: str, body: Split) -> Application:
        """Split the requests among revisions. The next registration gets all requests again."""
        return _wire(service.route(deps, name, body.traffic))

    @api.route("PUT", "/applications/<name>/visibility", body=Visibility, returns=Application)
    def set_visibility(name: str, body: Visibility) -> Application:
        """Make an application public, or take it back. Later registrations keep it, unless they name `public`."""
        return _wire(service.publish(deps, name, public=body.public))

    @api.route("POST", "/applications/<name>/rollback", returns=Application, refusals=(409,))
    def roll_back(name: str) -> Application:
        """Send all requests to the previous revision."""
        return _wire(service.roll_back(deps, name))


def _wire(view: service.ApplicationView) -> Application:
    row, status, address = view.row, view.status, view.address
    ahead = address.latest if address and address.latest != row.document.get("model") else None
    return Application.model_validate(
        {
            **row.document,
            "environment": dict.fromkeys(row.document.get("environment") or {}, extension.HIDDEN),
            "requested": address.requested if address else None,
            "follow": address.follow if address else False,
            "behind": ahead,
            "address_problem": (address.problem or None) if address else None,
            "revision": row.revision,
            "traffic": _shares(view, {int(revision): percent for revision, percent in row.traffic.items()}),
            "answering": _shares(view, status.traffic) if status and status.traffic is not None else None,
            "status": status.state if status else None,
            "cause": (causes.shorten(status.cause, _LONGEST_CAUSE) or None) if status else None,
            "created": row.created,
            "updated": row.updated,
        }
    )


def _shares(view: service.ApplicationView, traffic: Mapping[int, int]) -> list[Share]:
    return [Share(revision=revision, percent=percent, model=view.models.get(revision)) for revision, percent in traffic.items()]
