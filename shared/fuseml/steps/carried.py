"""The modules of this package that an environment carries: the steps that load the codeset's code or models, and the model server.

They are these steps and all that they import. They run in the codeset's environment, so they need no package but those that `needs` states, and
run on Python 3.8 and newer (a test checks both).
"""

from __future__ import annotations

import ast
import functools
import shutil
from pathlib import Path

_PACKAGE = Path(__file__).parent
_ENTRY_POINTS = ("bytecode", "evaluator", "mlflow_trainer", "model_server", "needs", "occupancy", "other_server", "scorer")


@functools.cache
def modules() -> tuple[str, ...]:
    """The names of the modules below `fuseml.steps`, sorted; `a.b` is a module of the package `a`."""
    found: set[str] = set()
    pending = list(_ENTRY_POINTS)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _imported(_file(name).read_text(encoding="utf-8"))
    return tuple(sorted(found))


def _imported(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fuseml.steps"):
            prefix = node.module[len("fuseml.steps") :].lstrip(".")
            names += [prefix] if prefix else []
            names += [f"{prefix}.{alias.name}".lstrip(".") for alias in node.names]
    return [name for name in names if _file(name).is_file()]


def _file(name: str) -> Path:
    path = _PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def files() -> list[Path]:
    """The files of the modules and of their packages, with the data in sub-packages, relative to the package, sorted."""
    paths = {_file(name) for name in modules()}
    folders = {parent for path in paths for parent in path.parents if parent.is_relative_to(_PACKAGE)}
    data = {file for folder in folders - {_PACKAGE} for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")}
    return sorted(path.relative_to(_PACKAGE) for path in paths | {folder / "__init__.py" for folder in folders} | data)


def content() -> str:
    """The source of the modules: a part of every environment, and so of its key."""
    return "".join((_PACKAGE / file).read_text(encoding="utf-8") for file in files())


def copy(packages: Path) -> None:
    """Copy the modules into the folder of packages of an environment, as the package `fuseml`, unless it has one."""
    target = packages / "fuseml"
    if target.exists():  # it may be one of the requirements
        return
    target.mkdir()
    (target / "__init__.py").write_text((_PACKAGE.parent / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
    for file in files():
        (target / "steps" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_PACKAGE / file, target / "steps" / file)
