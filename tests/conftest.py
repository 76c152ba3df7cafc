"""Settings of all tests: Hypothesis runs all of its examples on a slow machine, too, and Ctrl-C interrupts the commands of tests."""

from __future__ import annotations

import signal

import hypothesis

hypothesis.settings.register_profile("fuseml", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("fuseml")

# A shell starts a background command with SIGINT ignored, and processes inherit that: without this, `task test &` could not interrupt its commands.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
