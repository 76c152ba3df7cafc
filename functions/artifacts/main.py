"""Serves `artifacts` on Knative."""

from __future__ import annotations

import os

from functions.artifacts.app import create_app
from functions.artifacts.deps import Deps
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(store=wiring.store(settings), publisher=wiring.publisher(settings), tokens=wiring.tokens(settings))


handle = http.as_function(lambda: create_app(_deps()), settings)
