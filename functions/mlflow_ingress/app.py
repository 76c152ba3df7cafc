"""The application of `mlflow_ingress`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flask

from functions.mlflow_ingress import routes
from fuseml.contents import mlflow, trackers
from fuseml.runtime import cloudevents, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What taking webhooks needs from the outside. `now` is Unix time in seconds; `zone` is the control plane's own."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    now: Callable[[], float]
    zone: str = ""
    tracking: trackers.Connect = mlflow.Tracking


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application. No tokens: a webhook proves itself by its signature."""
    api = http.Api("mlflow_ingress", "Webhooks of tracking servers", tokens=None)
    routes.register(api, deps)
    return api.app
