"""Notebooks as trainings: executed by papermill, and kept as an artifact of the MLflow run, also after a failure.

The kernel is the one of this environment, whatever the notebook's author called it, and the working folder is that of the notebook, as in
Jupyter. A parameter replaces the value of the cell with the tag `parameters`.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fuseml.steps import mlproject, sdk

REQUIREMENTS = ("papermill", "ipykernel")
FLAG = "-p "
"""papermill's flag for a parameter."""
EXECUTED = "FUSEML_EXECUTED_NOTEBOOK"
"""The variable of the command with the path of the executed notebook."""
ARTIFACTS = "notebooks"
"""The folder of executed notebooks among the artifacts of a run."""

_ASSIGNED = re.compile(r"^([A-Za-z_]\w*)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)


def command(name: str) -> str:
    """The command that executes the notebook, before its parameters."""
    folder = str(Path(name).parent)
    working = f" --cwd {shlex.quote(folder)}" if folder != "." else ""
    return mlproject.literal(
        f'python -m papermill --no-progress-bar --log-output --kernel python3{working} {shlex.quote(name)} "${EXECUTED}"'
    )


def notes(text: str, given: Mapping[str, str]) -> list[str]:
    """Notes about parameters that the notebook may not use. `text` is the file. Raises StepError for a file that is no notebook."""
    try:
        cells = json.loads(text)["cells"]
        tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise sdk.StepError("the notebook cannot be read: it must be JSON with cells (nbformat 4)") from None
    if not given:
        return []
    if not tagged:
        return ["the notebook has no cell with the tag 'parameters': values are set before its first cell, and its own assignments win"]
    assigned = {name: mlproject.Parameter(name) for source in sources for name in _ASSIGNED.findall(source)}
    suspects = mlproject.EntryPoint("notebook", "", assigned).suspects(given)
    unknown = [name for name in given if name not in assigned]
    return [
        f"the notebook has no parameter '{name}' (its own: {', '.join(assigned) or 'none'})"
        + (f"; did you mean '{suspects[name]}'?" if name in suspects else "")
        for name in unknown
    ]


def keep(executed: Path, run_id: str) -> None:
    """Store the executed notebook among the artifacts of the run. A failure is a note in the log: the training has ended already."""
    if not executed.is_file():
        return
    upload = [sys.executable, "-I", "-m", "mlflow", "artifacts", "log-artifact"]
    upload += ["--local-file", str(executed), "--run-id", run_id, "--artifact-path", ARTIFACTS]
    ended = subprocess.run(upload, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode == 0:
        sdk.say(f"the executed notebook is the artifact {ARTIFACTS}/{executed.name} of the MLflow run {run_id}")
    else:
        reason = next((line for line in reversed(ended.stderr.splitlines()) if line.strip()), f"exit code {ended.returncode}")
        sdk.say(f"note: the executed notebook could not be stored: {reason}")
