"""What all tests share: Hypothesis searches as far as its number of examples allows, however slow the machine is."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("fuseml", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("fuseml")
