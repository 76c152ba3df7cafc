"""The definitions of Knative's and Tekton's resources: the only files beside the checkout that tests read.

They belong to those platforms and are large, so the repository does not hold them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FUSEML_CRDS", Path(__file__).parents[2] / "shared" / "crds"))
"""A folder for each platform, such as `tekton-pipelines`, with the files of its release."""


def at(path: str = "") -> Path:
    """A file or folder of them. Skips the test where it is missing."""
    found = FOLDER / path
    if not found.exists():
        pytest.skip(f"no resource definitions at {found}; set FUSEML_CRDS to their folder")
    return found
