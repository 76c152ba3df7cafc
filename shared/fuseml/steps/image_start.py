"""Starts a step with the Python of an image that a codeset names (`docker_image`), after a check of the packages that the image has.

    python image_start.py MODULE [ARGUMENTS]

It runs as a script beside the folder `packages`, which holds the steps; any Python from 3.8 runs it.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

_MODEL_SERVER = "fuseml.steps.model_server"


def main() -> None:
    """Run the module as a program, or end with the one sentence that names what the image lacks."""
    # In the place of this script's own folder, whose modules would shadow others.
    sys.path[0] = str(Path(__file__).resolve().parent / "packages")
    from fuseml.steps import needs

    module = sys.argv[1]
    absent = needs.missing((*needs.TRAINER, *(needs.SERVER if module == _MODEL_SERVER else ())))
    if absent:
        image, version = os.environ.get("FUSEML_BASE_IMAGE", "of docker_env"), sys.version.split()[0]
        sys.exit(
            f"the image {image} has Python {version} without {', '.join(absent)}, which {module} needs: install mlflow in it, "
            "or name the requirements of the training in a python_env"
        )
    del sys.argv[0]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
