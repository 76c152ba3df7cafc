"""The images that tests on a cluster take: each is named by FUSEML_TEST_IMAGE_NAME."""

from __future__ import annotations

import os

import pytest


def image(name: str, default: str = "") -> str:
    """The image of this name. Skips the test where nobody has named it, and there is no default."""
    variable = f"FUSEML_TEST_IMAGE_{name}"
    found = os.environ.get(variable) or default
    if not found:
        pytest.skip(f"needs {variable}")
    return found
