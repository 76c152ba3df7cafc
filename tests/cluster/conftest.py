"""One deployment for all tests that look at FuseML on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import deployment as deployed


@pytest.fixture(scope="session")
def deployment() -> Iterator[deployed.Deployment]:
    with deployed.running() as running:
        yield running
