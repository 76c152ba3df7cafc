"""Serves `mlflow_ingress` on Knative."""

from __future__ import annotations

import os
import time

from functions.mlflow_ingress.app import create_app
from functions.mlflow_ingress.deps import Deps
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        keyring=wiring.keyring(settings),
        now=time.time,
        zone=settings.zone,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
