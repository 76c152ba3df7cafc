"""Serves `extensions` on Knative."""

from __future__ import annotations

import os

from functions.extensions.app import create_app
from functions.extensions.deps import Deps
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        keyring=wiring.keyring(settings),
        tokens=wiring.tokens(settings),
        zone=settings.zone,
        public_url=settings.public_url,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
