"""The application of `extensions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flask

from functions.extensions import routes
from fuseml.runtime import auth, cloudevents, http, secrets
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the registry needs from the outside. `zone` is the control plane's own, where runs are; webhooks come in at `public_url`.

    `renew` puts a fresh key into the keyring, where the server keeps its keys itself; else they are configured, a new one first.
    """

    store: database.Database
    publisher: cloudevents.Publisher
    keyring: secrets.Keyring
    tokens: auth.Tokens
    zone: str = ""
    public_url: str = ""
    renew: Callable[[], None] | None = None


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("extensions", "The extension registry", tokens=deps.tokens)
    # Endpoints are addressed by URL: `http://` in a path is meant.
    api.app.url_map.merge_slashes = False
    routes.register(api, deps)
    return api.app
