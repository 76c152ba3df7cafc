"""Bytecode for the processes of an environment, which may not write into it: without it, each of them compiles all that it imports.

    python -I -m fuseml.steps.bytecode NAME...

The builder, which may write there, imports once what the trainer, the model server and the codeset import; Python writes the bytecode. Modules of
the codeset are never imported, because their import may be the training: neither those of the checkout nor those of packages that are installed
from a folder or a repository.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuseml.steps import needs, sdk

_STEPS = ("mlflow_trainer", "model_server", "scorer", "evaluator")
_MODULES = ("mlflow", "mlflow.pyfunc", "yaml", "numpy", "pandas", "starlette", "uvicorn", *(f"fuseml.steps.{name}" for name in _STEPS))
_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")
_SECONDS = 600
_FILES, _BYTES = 200, 1 << 20


def write(python: str, codeset: Path) -> None:
    """Write the bytecode into the environment of `python`, for itself and the codeset. Without success imports are slower, with a note in the log."""
    started = time.monotonic()
    command = [python, "-I", "-m", "fuseml.steps.bytecode", *imported(codeset)]
    # Imports see no password of a package index, and leave their files in a folder that ends.
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="fuseml-") as scratch:
        try:
            ended = subprocess.run(
                command,
                cwd=scratch,
                env={**variables, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            sdk.say(f"note: the packages were not imported within {_SECONDS} s; steps compile the rest each time")
            return
    if ended.returncode != 0:
        sdk.say(f"note: the import of the packages ended with exit code {ended.returncode}; steps compile the rest each time")
    else:
        sdk.say(f"bytecode written in {time.monotonic() - started:.1f} s")


def imported(codeset: Path) -> list[str]:
    """The modules that the Python files of the codeset import, without its own, sorted."""
    own, names = set(), set()
    for file in sorted(path for path in codeset.rglob("*.py") if path.is_file())[:_FILES]:
        own |= {file.stem, *file.relative_to(codeset).parts[:-1]}
        names |= _imports(file)
    return sorted(name for name in names if name.partition(".")[0] not in own)


def _imports(file: Path) -> set[str]:
    names = set()
    try:
        with file.open("rb") as opened:
            tree = ast.parse(opened.read(_BYTES))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the training reports it, if it uses the file
        return set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def main() -> None:
    """Import the modules that the arguments name, and those that every step needs; one that cannot be imported is passed over."""
    needs.add_server_packages()
    own = _of_folders()
    for name in (*_MODULES, *sys.argv[1:]):
        package = name.partition(".")[0]
        if package not in own:
            _import(name)
            _import(f"mlflow.{package}")  # MLflow's module for models of the package, such as mlflow.sklearn


def _of_folders() -> set[str]:
    """The modules of distributions that come from a folder, a repository or a file, not from an index."""
    names = set()
    for distribution in importlib.metadata.distributions():
        if distribution.read_text("direct_url.json"):
            names |= {file.parts[0].partition(".")[0] for file in distribution.files or ()}
    return names


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException as error:  # packages raise anything, also SystemExit; the step that needs it reports it
        sys.stderr.write(f"{name}: {error!r}\n")


if __name__ == "__main__":
    main()
