"""The format of a model by the names of its files: the conventions of the model servers."""

from __future__ import annotations

import re
from collections.abc import Collection

MLFLOW = "mlflow"
_RULES = (
    (MLFLOW, r"MLmodel"),
    ("triton", r"([^/]+/)?config\.pbtxt"),
    ("tensorflow", r"(\d+/)?saved_model\.pb"),
    ("onnx", r"(\d+/)?[^/]+\.onnx"),
    ("openvino", r"(\d+/)?[^/]+\.xml"),
    ("sklearn", r"model\.(joblib|pkl|pickle|skops)"),
    ("lightgbm", r"model\.(lgb|txt)"),
    ("xgboost", r"model\.(bst|json|ubj)"),
    ("pytorch", r"(\d+/)?[^/]+\.pt"),
)
"""In this order: a folder of MLflow holds files of the other formats, too."""


def of_files(names: Collection[str]) -> str:
    """The format of a model with these files, by their paths in its folder, or of one file by its name; empty for an unknown one."""
    return next((format for format, pattern in _RULES if any(re.fullmatch(pattern, name) for name in names)), "")
