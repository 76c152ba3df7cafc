"""Resource definitions of Knative, Tekton and KServe: the only files outside the checkout that tests read.

They belong to those platforms and are large, so the repository does not hold them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FUSEML_CRDS", Path(__file__).parents[2] / "shared" / "crds"))
"""The folder with a subfolder for each platform, such as `tekton-pipelines`, with the files of its release."""


def at(path: str = "") -> Path:
    """The file or folder at `path` in the folder of definitions. Skips the test if it is missing."""
    place = FOLDER / path
    if not place.exists():
        pytest.skip(f"no resource definitions at {place}; set FUSEML_CRDS to their folder")
    return place
