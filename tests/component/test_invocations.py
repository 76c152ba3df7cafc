"""The scoring applications of older MLflow, of Flask before MLflow 3, answer beside routes that the model server adds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import flask
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fuseml.steps import invocations

scoring_server = pytest.importorskip("mlflow.pyfunc.scoring_server", reason="needs MLflow: install fuseml[mlflow]")


def older(model: object) -> flask.Flask:
    """An application as MLflow 2 makes it."""
    app = flask.Flask("mlflow")

    @app.post("/invocations")
    def predict() -> dict[str, object]:
        return {"predictions": flask.request.get_json()["inputs"], "model": model}

    return app


def call(app: Any, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON body of a response."""
    content, sent = json.dumps(body).encode(), []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
    more = {
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }
    asyncio.run(app({**scope, **more}, receive, send))
    text = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(text) if text.startswith(b"{") else text


def test_added_routes_answer_before_a_flask_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_server, "init", older)
    app = invocations.application("a model")  # type: ignore[arg-type]

    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    app.router.routes += [Route("/v2/health/live", live)]
    assert call(app, "GET", "/v2/health/live") == (200, {"live": True})
    assert call(app, "POST", "/invocations", {"inputs": [1, 2]}) == (200, {"predictions": [1, 2], "model": "a model"})
    assert call(app, "GET", "/nothing")[0] == 404


def of_early_mlflow_3(model: object) -> Any:
    """An application as MLflow 3.8 makes it."""
    app = pytest.importorskip("fastapi").FastAPI()

    async def ping(_: Request) -> JSONResponse:
        return JSONResponse({"model": model})

    async def predict(request: Request) -> JSONResponse:
        return JSONResponse({"predictions": (await request.json())["inputs"]})

    app.route("/ping", methods=["GET"])(app.route("/health", methods=["GET"])(ping))
    app.route("/invocations", methods=["POST"])(predict)
    return app


def test_the_application_of_an_early_mlflow_3_answers_whatever_starlette_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_server, "init", of_early_mlflow_3)
    for _ in range(2):
        app = invocations.application("a model")  # type: ignore[arg-type]
        for path in ("/ping", "/health"):
            assert call(app, "GET", path) == (200, {"model": "a model"})
        assert call(app, "POST", "/invocations", {"inputs": [1, 2]}) == (200, {"predictions": [1, 2]})
        assert call(app, "GET", "/invocations")[0] == 405
