"""The program of a training: an MLproject entry point, a script, a notebook, a DVC pipeline, or a command.

`choose` is one documented rule (docs/projects.md): the input `entrypoint`, else MLproject, else the only one of `train.py`, `dvc.yaml` and the
notebooks of the folder. It never takes one of several in silence.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fuseml.steps import mlproject, notebook, pipeline, sdk

MLPROJECT, SCRIPT, NOTEBOOK, PIPELINE, COMMAND = "MLproject", "script", "notebook", "pipeline", "command"
_SUFFIXES = {".py": SCRIPT, ".sh": SCRIPT, ".ipynb": NOTEBOOK}
_TRAIN = "train.py"
_ADVICE = "name one in the step input 'entrypoint'"
_LISTED = 10


@dataclass(frozen=True)
class Training:
    """The program, of one of the kinds above. `reason` is a clause for the log; `file` is the notebook or the dvc.yaml, with its stage."""

    kind: str
    entry_point: mlproject.EntryPoint
    reason: str
    file: str = ""

    def requirements(self, folder: Path) -> list[str]:
        """The packages that run the program, beside those that the code imports."""
        needed = list(notebook.REQUIREMENTS) if self.kind == NOTEBOOK else []
        return needed + (pipeline.requirements(folder) if self.kind == PIPELINE or sdk.input("data", "") else [])


def choose(folder: Path, named: str = "") -> Training:
    """The program of the codeset in `folder`; `named` is the input `entrypoint`. Raises StepError for none, or several, with their list."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    file = mlproject.file_name(names)
    project = mlproject.parse(sdk.read_file(folder, file), file) if file else None
    if named:
        return _named(folder, names, project, named)
    if project is not None and file is not None:
        return _of_project(project, file)
    return _found(folder, names)


def named_entry_point() -> str:
    """The input `entrypoint`, or its older name."""
    return sdk.input("entrypoint", "") or sdk.input("mlflow-entrypoint", "")


def _named(folder: Path, names: Iterable[str], project: mlproject.Project | None, named: str) -> Training:
    reason = f"the step input 'entrypoint' is '{named}'"
    if project is not None and named in project.entry_points:
        return Training(MLPROJECT, project.entry_points[named], reason)
    path, _, stage = named.partition(":")
    if Path(path).name == pipeline.FILE and (folder / path).is_file():
        return _pipeline(path, stage, reason)
    kind = _SUFFIXES.get(Path(named).suffix)
    if kind and (folder / named).is_file():
        sdk.read_file(folder, named)  # refuses what is outside the codeset
        return _of_file(named, kind, reason)
    words = named.split()
    if kind and len(words) == 1:
        raise sdk.StepError(f"the codeset has no file '{named}', which the step input 'entrypoint' names{_similar(named, names)}")
    if project is not None and len(words) == 1:
        declared = ", ".join(project.entry_points) or "none"
        raise sdk.StepError(
            f"MLproject: entry_points: no '{named}' (declared: {declared}), and it is no script, notebook or command with arguments"
            + _similar(named, project.entry_points)
        )
    if len(words) == 1 and shutil.which(named, path=sdk.search_path()) is None:
        raise sdk.StepError(f"the step input 'entrypoint' is '{named}': there is no such file or program{_similar(named, names)}")
    return Training(COMMAND, mlproject.EntryPoint(named, mlproject.literal(named)), reason)


def _of_project(project: mlproject.Project, file: str) -> Training:
    points = project.entry_points
    if "main" in points:
        return Training(MLPROJECT, points["main"], f"{file} has the entry point 'main'")
    if len(points) == 1:
        [point] = points.values()
        return Training(MLPROJECT, point, f"{file} has only the entry point '{point.name}'")
    raise sdk.StepError(f"{file}: entry_points: no 'main' (declared: {', '.join(points) or 'none'}): {_ADVICE}")


def _found(folder: Path, names: Iterable[str]) -> Training:
    found = [name for name in names if name in (_TRAIN, pipeline.FILE) or name.endswith(".ipynb")]
    reason = "the codeset has no MLproject, and no other train.py, dvc.yaml or notebook"
    if pipeline.FILE in found:
        commands = pipeline.commands(sdk.read_file(folder, pipeline.FILE))
        others = [name for name in found if name != pipeline.FILE and not pipeline.runs(commands, name)]
        if not others and len(found) > 1:
            reason = (
                f"the codeset has no MLproject, and a stage of dvc.yaml runs {', '.join(name for name in found if name != pipeline.FILE)}"
            )
        found = [*others, pipeline.FILE]
    if len(found) > 1:
        raise sdk.StepError(f"the codeset has no MLproject, and several programs: {_list(found)}: {_ADVICE}")
    if not found:
        scripts = [name for name in names if _SUFFIXES.get(Path(name).suffix)]
        there = f"; its scripts: {_list(scripts)}" if scripts else ""
        raise sdk.StepError(
            f"the codeset has no MLproject, train.py, dvc.yaml or notebook: name its script or command in the step input 'entrypoint'{there}"
        )
    name = found[0]
    return _pipeline(name, "", reason) if name == pipeline.FILE else _of_file(name, _SUFFIXES[Path(name).suffix], reason)


def _of_file(name: str, kind: str, reason: str) -> Training:
    if kind == NOTEBOOK:
        return Training(NOTEBOOK, mlproject.EntryPoint(name, notebook.command(name), flag=notebook.FLAG), reason, name)
    return Training(SCRIPT, mlproject.script(name), reason)


def _pipeline(path: str, stage: str, reason: str) -> Training:
    # The parameters are values of params.yaml, not arguments.
    return Training(PIPELINE, mlproject.EntryPoint(path, pipeline.command(path, stage), flag=None), reason, path)


def _similar(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more


def requirements(folder: Path) -> list[str]:
    """The packages that run the codeset's program. An ambiguous program needs none: the trainer refuses it with the list."""
    try:
        return choose(folder, named_entry_point()).requirements(folder)
    except sdk.StepError:
        return []
