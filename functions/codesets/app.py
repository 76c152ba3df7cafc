"""The application of `codesets`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.codesets import routes
from fuseml import githosts
from fuseml.runtime import auth, cloudevents, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What projects and codesets need from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    keyring: secrets.Keyring
    tokens: auth.Tokens


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("codesets", "Projects and their codesets", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
