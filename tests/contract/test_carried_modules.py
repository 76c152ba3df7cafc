"""The modules that environments carry run on the oldest supported Python, with the packages that every environment has."""

from __future__ import annotations

import ast
import json
import pathlib
import sys

import pytest
import vermin

from fuseml import steps
from fuseml.steps import carried, needs
from tests import commands, pythons

PACKAGE = pathlib.Path(steps.__file__).parent
FILES = [PACKAGE.parent / "__init__.py", *(PACKAGE / file for file in carried.files() if file.suffix == ".py")]
# Modules beside the standard library: MLflow, what it requires, and what the builder adds for the model server.
PRESENT = {"mlflow", "yaml", "numpy", "pandas", "starlette", "uvicorn", "a2wsgi", "urllib3", "fuseml"}
# Imported only for what needs them, with an error that names the package: gRPC, models of xgboost and ONNX, datasets in Parquet or on S3.
# _typeshed is for type checkers.
OPTIONAL = {"grpc", "google", "xgboost", "onnx", "onnxruntime", "boto3", "botocore", "pyarrow", "_typeshed"}
# Methods of later Pythons; vermin does not know the types of the objects that they are called on.
LATER_METHODS = {"removeprefix", "removesuffix", "is_relative_to", "readlink", "hardlink_to", "with_stem", "bit_count", "walk_up"}


def test_steps_and_model_server_are_carried_with_all_that_they_import() -> None:
    assert {"evaluator", "mlflow_trainer", "model_server", "needs", "occupancy", "scorer", "sdk"} <= set(carried.modules())
    assert "mlflow_builder" not in carried.modules()
    assert not [name for name in carried.modules() if name.startswith("dependencies")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE.parent).as_posix())
def test_a_carried_module_has_the_grammar_and_the_library_of_the_oldest_python(file: pathlib.Path) -> None:
    source = file.read_text()
    tree = ast.parse(source, feature_version=needs.OLDEST_PYTHON)
    visitor = vermin.visit(source)
    minimum = visitor.minimum_versions()[1] if visitor is not None else None
    assert minimum is None or tuple(minimum) <= needs.OLDEST_PYTHON, visitor.output_text()
    later = [
        f"line {node.lineno}: {node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in LATER_METHODS
    ]
    assert later == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE.parent).as_posix())
def test_a_carried_module_imports_only_what_every_environment_has(file: pathlib.Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    assert names - PRESENT - OPTIONAL - set(sys.stdlib_module_names) == set()


# The interpreter has none of the packages of an environment; what is imported before them runs.
IMPORTS = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[3:]:
    try:
        importlib.import_module(f"fuseml.steps.{name}")
    except ModuleNotFoundError as error:
        if error.name not in json.loads(sys.argv[2]):
            raise
"""


@pythons.needs_oldest
def test_carried_modules_are_imported_by_the_oldest_python(tmp_path: pathlib.Path) -> None:
    carried.copy(tmp_path)
    commands.run([pythons.OLDEST, "-I", "-m", "compileall", "-q", tmp_path])
    commands.run([pythons.OLDEST, "-I", "-c", IMPORTS, tmp_path, json.dumps(sorted(PRESENT)), *carried.modules()])


def test_the_needs_are_reported() -> None:
    ended = commands.run([sys.executable, "-m", "fuseml.steps.needs"])
    assert json.loads(ended.stdout) == {"trainer": [], "server": []}
