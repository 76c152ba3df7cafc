"""Serves `workflows` on Knative."""

from __future__ import annotations

import os

from functions.workflows.app import create_app
from functions.workflows.deps import Deps
from fuseml import githosts
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    settings.require("git_url", "git_token", "public_url")
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        git=githosts.connect(settings.git_url, settings.git_token, settings.public_url),
        tokens=wiring.tokens(settings),
        public_url=settings.public_url,
        zone=settings.zone,
        namespace=settings.namespace,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
