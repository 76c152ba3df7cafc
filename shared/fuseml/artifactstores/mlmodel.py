"""The `MLmodel` file of a model of MLflow. Pure: text in, facts out; anything else than such a file states no facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

# The flavors that load the model of another flavor.
_GENERAL = ("python_function", "mlflow.pyfunc")
_LONGEST_VERSION = 100


@dataclass(frozen=True, slots=True)
class Mlmodel:
    """`framework` is the flavor of the model's library; empty without any flavor. `size` is bytes."""

    framework: str = ""
    framework_version: str = ""
    size: int | None = None


def parse(text: bytes) -> Mlmodel:
    """The facts that the file states."""
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        found = None
    document: Mapping[str, object] = found if isinstance(found, dict) else {}
    stated, size = document.get("flavors"), document.get("model_size_bytes")
    flavors = {str(name): value if isinstance(value, dict) else {} for name, value in stated.items()} if isinstance(stated, dict) else {}
    framework = next((name for name in flavors if name not in _GENERAL), "python_function" if flavors else "")
    version = next((value for key, value in flavors.get(framework, {}).items() if str(key).endswith("_version")), "")
    # No other types: lists of aliases in one kilobyte of YAML are gigabytes of text.
    shown = str(version)[:_LONGEST_VERSION] if isinstance(version, str | int | float) else ""
    return Mlmodel(framework, shown, size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None)
