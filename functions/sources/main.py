"""Serves `sources` on Knative."""

from __future__ import annotations

import os

from functions.sources.app import create_app
from functions.sources.deps import Deps
from fuseml.platform import Knative
from fuseml.runtime import http
from fuseml.runtime.settings import Settings

settings = Settings.from_env(os.environ)
platform = Knative(settings)

handle = http.as_function(lambda: create_app(Deps.of(platform)), settings, platform.needs)
