"""Serves `gateway` on Knative."""

from __future__ import annotations

import os

from functions.gateway.app import create_app
from functions.gateway.deps import Deps
from fuseml.runtime import http
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)

handle = http.as_function(lambda: create_app(Deps(functions_url=settings.require("functions_url").functions_url)), settings)
