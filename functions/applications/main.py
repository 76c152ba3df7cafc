"""Serves `applications` on Knative."""

from __future__ import annotations

import os

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml import servings
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(
        store=wiring.store(settings),
        tokens=wiring.tokens(settings),
        keyring=wiring.keyring(settings),
        serving=servings.connect(settings.namespace, settings.serving_image),
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
