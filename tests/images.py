"""The images for tests on a cluster; FUSEML_TEST_IMAGE_<NAME> sets one."""

from __future__ import annotations

import os

import pytest


def image(name: str, default: str = "") -> str:
    """The image of this name. Skips the test if it is not set and has no default."""
    variable = f"FUSEML_TEST_IMAGE_{name}"
    reference = os.environ.get(variable) or default
    if not reference:
        pytest.skip(f"needs {variable}")
    return reference
