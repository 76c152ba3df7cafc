"""The application of `gitea_ingress`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.gitea_ingress import routes
from fuseml.runtime import cloudevents, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What taking webhooks needs from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application. No tokens: a webhook proves itself by its signature."""
    api = http.Api("gitea_ingress", "Webhooks of git hosts", tokens=None)
    routes.register(api, deps)
    return api.app
