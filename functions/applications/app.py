"""The application of `applications`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.applications import routes
from fuseml import servings
from fuseml.runtime import auth, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What applications need from the outside."""

    store: database.Database
    tokens: auth.Tokens
    keyring: secrets.Keyring
    serving: servings.Servings


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("applications", "Served things that runs produced", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
