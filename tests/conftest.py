"""Settings of all tests: Hypothesis runs all of its examples on a slow machine, too."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("fuseml", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("fuseml")
