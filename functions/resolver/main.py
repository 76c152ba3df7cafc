"""Serves `resolver` on Knative."""

from __future__ import annotations

import os

from functions.resolver.app import create_app
from functions.resolver.deps import Deps
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(store=wiring.store(settings), tokens=wiring.tokens(settings), zone=settings.zone)


handle = http.as_function(lambda: create_app(_deps()), settings)
