"""Serves `run_tracker` on Knative."""

from __future__ import annotations

import os

from functions.run_tracker.app import create_app
from functions.run_tracker.deps import Deps
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(store=wiring.store(settings), publisher=wiring.publisher(settings))


handle = http.as_function(lambda: create_app(_deps()), settings)
