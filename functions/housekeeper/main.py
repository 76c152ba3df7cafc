"""Serves `housekeeper` on Knative."""

from __future__ import annotations

import os

from functions.housekeeper.app import create_app
from functions.housekeeper.deps import Deps
from fuseml import contents, engines, githosts, servings
from fuseml.runtime import http, wiring
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)


def _deps() -> Deps:
    settings.require("git_url", "git_token", "public_url")
    return Deps(
        store=wiring.store(settings),
        publisher=wiring.publisher(settings),
        git=githosts.connect(settings.git_url, settings.git_token, settings.public_url),
        engine=engines.connect(settings.namespace),
        contents=contents.connect(settings),
        engine_days=settings.days("engine_days"),
        log_days=settings.days("log_days"),
        keyring=wiring.keyring(settings),
        serving=servings.connect(settings.namespace, settings.serving_image),
        api_url=settings.functions_url.replace("{function}", "applications"),
        zone=settings.zone,
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
