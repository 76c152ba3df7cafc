"""MLflow's `python_env.yaml`: a Python version and lines of a requirements file."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout, pythons, requirements, yaml_fields


def parse(name: str, data: Mapping[str, object], files: checkout.Files) -> requirements.Environment:
    """The environment of the file. Raises StepError naming the file and the key that is wrong."""
    python = data.get("python")
    if python is not None and not isinstance(python, str):
        raise sdk.StepError(
            f'{name}: python: write the version in quotes, as in python: "3.11"; YAML reads {python} as a number and loses zeros'
        )
    unknown = set(data) - {"python", "build_dependencies", "dependencies", "name"}
    if unknown:
        raise sdk.StepError(
            f"{name}: {min(unknown)}: is not a key of a python_env file; the keys are python, build_dependencies and dependencies"
        )
    environment = requirements.Environment(
        name, python=pythons.specifier(python, f"{name}: python") if python else "", folder=posixpath.dirname(name)
    )
    # Build dependencies are not installed: uv isolates every build with its own.
    key = f"{name}: dependencies"
    lines = [yaml_fields.line(item, key) for item in yaml_fields.items(data, "dependencies", name)]
    return requirements.of_lines(environment, lines, key, files)
