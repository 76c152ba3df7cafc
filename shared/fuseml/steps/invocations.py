"""MLflow's own scoring server as an application to add routes to: FastAPI in MLflow 3, Flask before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from starlette.applications import Starlette

Endpoint = TypeVar("Endpoint")


def application(model: PyFuncModel) -> Starlette:
    """The scoring application for the model. Its routes come after those that the caller adds, if it is Flask's."""
    from mlflow.pyfunc import scoring_server

    _restore_route()
    made = scoring_server.init(model)  # type: ignore[no-untyped-call,unused-ignore]
    if not hasattr(made, "wsgi_app"):
        whole: Starlette = made
        return whole
    from a2wsgi import WSGIMiddleware
    from starlette.applications import Starlette as Application

    app = Application()
    app.router.default = WSGIMiddleware(made)  # type: ignore[assignment,unused-ignore]  # the packages name the same protocol differently
    return app


def _restore_route() -> None:
    """The decorator `Starlette.route`: earlier releases of MLflow 3 use it and allow Starlette 1, which has removed it."""
    from starlette.applications import Starlette

    def route(app: Starlette, path: str, methods: Sequence[str]) -> Callable[[Endpoint], Endpoint]:
        def added(endpoint: Endpoint) -> Endpoint:
            app.add_route(path, endpoint, methods=list(methods))  # type: ignore[arg-type]
            return endpoint

        return added

    if not hasattr(Starlette, "route"):
        Starlette.route = route  # type: ignore[attr-defined]
