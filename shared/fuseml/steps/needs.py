"""The needs of the trainer and the model server in an environment, stated and checked.

    python -I -m fuseml.steps.needs

The trainer needs Python 3.8, and MLflow with its PyYAML; MLflow before 3 needs setuptools. The model server also needs starlette and uvicorn,
and a2wsgi and Flask for MLflow before 3, whose scoring server is a WSGI application. Where the environment lacks one of these, the builder puts
it into the folder `server` beside the environment's packages, which only the model server sees, after them: the versions of the codeset are
never changed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

OLDEST_PYTHON = (3, 8)
TRAINER = ("mlflow", "yaml")
# Newer releases have no pkg_resources.
SETUPTOOLS = "setuptools<81"
PYTHONS_WITH_SETUPTOOLS = ("python3.8", "python3.9", "python3.10", "python3.11")
SERVER = ("starlette", "uvicorn")
SERVER_BEFORE_MLFLOW_3 = ("a2wsgi", "flask")
SERVER_FOLDER = "server"


def server_folder() -> str:
    """The folder of the model server's own packages in the running environment."""
    return os.path.join(sys.prefix, SERVER_FOLDER)  # noqa: PTH118 - runs on Python 3.8, where it is as good


def add_server_packages() -> None:
    """Let this process import the model server's own packages, after those of the environment."""
    folder = server_folder()
    if os.path.isdir(folder) and folder not in sys.path:  # noqa: PTH112
        sys.path.append(folder)


def missing(names: tuple[str, ...]) -> list[str]:
    """The modules of `names` that the running environment cannot find."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def main() -> None:
    """Print the modules that the trainer and the model server lack, as JSON."""
    absent = {"trainer": missing(TRAINER)}
    add_server_packages()
    absent["server"] = missing(SERVER)
    sys.stdout.write(json.dumps(absent) + "\n")


if __name__ == "__main__":
    main()
