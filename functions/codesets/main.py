"""Serves `codesets` on Knative."""

from __future__ import annotations

import os

from functions.codesets.app import create_app
from functions.codesets.deps import Deps
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
        keyring=wiring.keyring(settings),
        tokens=wiring.tokens(settings),
    )


handle = http.as_function(lambda: create_app(_deps()), settings)
