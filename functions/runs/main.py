"""Serves `runs` on Knative."""

from __future__ import annotations

import os

from functions.runs.app import create_app
from functions.runs.deps import Deps
from fuseml import contents, engines
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        engine=engines.connect(settings.namespace),
        contents=contents.connect(settings),
        tokens=wiring.tokens(settings),
        public_url=settings.require("public_url").public_url,
        zone=settings.zone,
        namespace=settings.namespace,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
