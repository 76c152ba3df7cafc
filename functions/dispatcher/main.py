"""Serves `dispatcher` on Knative."""

from __future__ import annotations

import os

from functions.dispatcher.app import create_app
from functions.dispatcher.deps import Deps
from fuseml import engines, githosts
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    settings.require("git_url", "git_token", "public_url")
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        git=githosts.connect(settings.git_url, settings.git_token, settings.public_url),
        engine=engines.connect(settings.namespace, settings.git_image, settings.for_steps()),
        keyring=wiring.keyring(settings),
        zone=settings.zone,
        namespace=settings.namespace,
        clones=True,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
