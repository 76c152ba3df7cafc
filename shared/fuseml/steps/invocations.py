"""MLflow's own scoring server as an application to add routes to: FastAPI in MLflow 3, Flask before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from starlette.applications import Starlette


def application(model: PyFuncModel) -> Starlette:
    """The scoring application for the model. Its routes come after those that the caller adds, if it is Flask's."""
    from mlflow.pyfunc import scoring_server

    made = scoring_server.init(model)  # type: ignore[no-untyped-call,unused-ignore]
    if not hasattr(made, "wsgi_app"):
        whole: Starlette = made
        return whole
    from a2wsgi import WSGIMiddleware
    from starlette.applications import Starlette as Application

    app = Application()
    app.router.default = WSGIMiddleware(made)  # type: ignore[assignment,unused-ignore]  # the packages name the same protocol differently
    return app
