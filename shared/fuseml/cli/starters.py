"""`fuseml init`: the files of a codeset and of a workflow to start from."""

from __future__ import annotations

import enum
import importlib.resources
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from fuseml.cli import options, session, terminal
from fuseml.domain import errors

_WORKFLOW = "workflow.yaml"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")


class Template(enum.StrEnum):
    """The values of TEMPLATE."""

    SCRIPT = "script"
    MLPROJECT = "mlproject"
    NOTEBOOK = "notebook"


_FILES: Mapping[Template, tuple[str, ...]] = {
    Template.SCRIPT: ("requirements.txt", "train.py"),
    Template.MLPROJECT: ("MLproject", "python_env.yaml", "requirements.txt", "train.py"),
    Template.NOTEBOOK: ("requirements.txt", "train.ipynb"),
}


def init(
    context: typer.Context,
    template: Annotated[
        Template, typer.Argument(metavar="TEMPLATE", help="script (train.py), mlproject or notebook.", show_default=False)
    ] = Template.SCRIPT,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder, which may exist.")] = ".",
    name: Annotated[str, options.option("--name", "-n", help="Name of codeset, workflow and model; by default that of the folder.")] = "",
) -> None:
    """Write a codeset and a workflow to start from.

    The code trains a small model; the workflow trains and serves it at each
    push. Existing files are never changed.
    """
    place = Path(folder)
    name = name or _name_of(place)
    if not _NAME.fullmatch(name):
        raise errors.InvalidError(f"{name[:80]!r} is no name of a codeset; name it with -n: letters, digits, `_` and `-`")
    files = _files(template, name)
    taken = [path for path, text in files.items() if (place / path).exists() and not _has(place / path, text)]
    if taken:
        raise errors.ConflictError(f"{place} has a {', a '.join(taken)} already; choose another folder: fuseml init {template} FOLDER")
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            _write(place / path, text)
    except OSError as error:
        raise errors.PermanentError(f"{place} cannot be written: {error.strerror or error}") from error
    settings = session.settings(context)
    project = settings.current_project()
    option = "" if project else " -p PROJECT"
    # `push` takes a bare word for the name of a codeset.
    source = folder if "/" in folder or folder == "." else f"./{folder}"
    terminal.echo(f"{place} has {', '.join(files)} now. Next:")
    for line in (
        f"fuseml push {source} -n {name}{option}",
        f"fuseml workflow create {place / _WORKFLOW}",
        f"fuseml workflow assign {name}{option} -c {name} --wait",
    ):
        terminal.echo(f"  {line}")


def _name_of(place: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", place.resolve().name).strip("-")[:63]


def _files(template: Template, name: str) -> Mapping[str, str]:
    examples = importlib.resources.files("fuseml.examples")
    found = {file: (examples / "starters" / file).read_text(encoding="utf-8").replace("NAME", name) for file in _FILES[template]}
    workflow = (examples / "workflows" / "mlflow-e2e.yaml").read_text(encoding="utf-8")
    return {**found, _WORKFLOW: workflow.replace("name: mlflow-e2e\n", f"name: {name}\n", 1)}


def _has(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _write(path: Path, text: str) -> None:
    """Write a file that does not exist; it appears when it is complete."""
    if path.exists():
        return
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
