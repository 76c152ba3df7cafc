"""The demo's codeset on disk: the shipped example, and the change of one hyperparameter."""

from __future__ import annotations

import contextlib
import importlib.resources
import shutil
from pathlib import Path

from fuseml.domain import errors

EXAMPLE = "sklearn-diabetes"
WORKFLOW = "mlflow-e2e"


def unpack_example(folder: Path) -> None:
    """Copy the shipped codeset into the folder."""
    with importlib.resources.as_file(importlib.resources.files("fuseml.examples") / "codesets" / EXAMPLE) as source:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def workflow_text() -> str:
    """The document of the shipped workflow."""
    return (importlib.resources.files("fuseml.examples") / "workflows" / f"{WORKFLOW}.yaml").read_text()


def change_default(project_file: str, parameter: str, factor: float) -> tuple[str, str, str]:
    """Multiply the default of a parameter of an MLproject's main entry point; the new text, the old and the new default.

    The rest of the text is unchanged. Raises InvalidError when the parameter has no numeric default.
    """
    import yaml

    node: yaml.Node | None = yaml.compose(project_file)
    for key in ("entry_points", "main", "parameters", parameter, "default"):
        children = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in children if name.value == key), None)
    if isinstance(node, yaml.ScalarNode):
        with contextlib.suppress(ValueError):
            new = f"{float(node.value) * factor:g}"
            return project_file[: node.start_mark.index] + new + project_file[node.end_mark.index :], node.value, new
    raise errors.InvalidError(f"the example's MLproject has no numeric default for {parameter!r}")
