"""The command line, environment and folder of the process of a step, native or in a container.

Secrets appear in the environment only; `admission` rejects them everywhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import errors, plans
from fuseml.engines.local import implementations, journal, resources, step_files

CONTAINER_RESULTS = "/tekton/results"
_CONTAINER_SCRIPT = "/tekton/scripts/script"
# The names that a POSIX shell, and so the shell that starts the step, passes on to its children.
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Launch:
    """The arguments of a process. `runtime` is the container program, if any; `dropped` are variables that a shell cannot pass on."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    data_limit: int | None
    runtime: str | None = None
    dropped: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StepValues:
    """The values of a step as text."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    script: str
    variables: Mapping[str, str]


def evaluate(step: plans.StepPlan, outputs: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str]) -> StepValues:
    """The step's values with outputs and secrets inserted. Raises PermanentError when an output is missing."""

    def text(value: plans.Value) -> str:
        return plans.evaluate(value, outputs, lambda part: secrets[part.ref])

    return StepValues(
        image=text(step.image),
        command=tuple(map(text, step.command)),
        args=tuple(map(text, step.args)),
        script=text(step.script),
        variables={variable.name: text(variable.value) for variable in step.variables},
    )


def container_name(run_id: str, step: str, number: int) -> str:
    """The name of the container of one attempt. It is derived from the attempt, so that a later server can stop the container."""
    return f"fuseml-{run_id}-{step}-{number}"


def native(
    step: plans.StepPlan,
    values: StepValues,
    implementation: implementations.Native,
    folder: journal.RunFolder,
    host: Mapping[str, str],
    environments: Path,
) -> Launch:
    """The step as a plain process. Raises PermanentError when the step has no program."""
    step_folder = folder.step_path(step.name)
    work, home, temporary = (step_folder / name for name in ("work", "work/home", "work/tmp"))
    for path in (home, temporary):
        path.mkdir(parents=True, exist_ok=True)
    if values.script:
        script = _write_script(step_folder, values.script)
        command = [*_interpreter(values.script), str(script), *values.args]
    else:
        command = [*(values.command or implementation.command), *values.args]
    if not command:
        raise errors.PermanentError(f"the image {values.image!r} has no default command; give the step a command or a script")
    path_variable = os.pathsep.join(
        filter(None, (str(implementation.programs) if implementation.programs else "", host.get("PATH", os.defpath)))
    )
    environment = {
        "LANG": "C.UTF-8",
        **implementation.environment,
        **host,
        "PATH": path_variable,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "FUSEML_ENVIRONMENTS": str(environments),
        **resources.thread_variables(step.resources.limits),
        **values.variables,
        "FUSEML_ENV_RESULTS": str(step_folder / "results"),
    }
    return Launch(
        command,
        environment,
        folder.checkout_path(step.checkouts[0]) if step.checkouts else work,
        resources.data_limit(step.resources.limits),
        dropped=_dropped(values.variables),
    )


def container(
    step: plans.StepPlan, values: StepValues, runtime: str, folder: journal.RunFolder, name: str, host: Mapping[str, str]
) -> Launch:
    """The step in a container. The runtime reads the values of variables from its own environment, their names from its arguments."""
    step_folder = folder.step_path(step.name)
    # label=disable: without it, SELinux denies a container access to its mounted folders.
    options = ["--rm", "--name", name, "--network", "host", "--security-opt", "label=disable"]
    for checkout in step.checkouts:
        options += ["--volume", f"{folder.checkout_path(checkout)}:{checkout.path}"]
    options += ["--volume", f"{step_folder / 'results'}:{CONTAINER_RESULTS}"]
    if step.checkouts:
        options += ["--workdir", step.checkouts[0].path]
    limits = step.resources.limits
    if "cpu" in limits:
        options += ["--cpus", f"{resources.quantity(limits['cpu']):f}"]
    if "memory" in limits:
        options += ["--memory", str(int(resources.quantity(limits["memory"])))]
    variables = {**values.variables, "FUSEML_ENV_RESULTS": CONTAINER_RESULTS}
    for variable in variables:
        options += ["--env", variable]
    if values.script:
        options += ["--volume", f"{_write_script(step_folder, values.script)}:{_CONTAINER_SCRIPT}:ro"]
        command = [*_interpreter(values.script), _CONTAINER_SCRIPT, *values.args]
    else:
        command = [*(values.command or ("run",)), *values.args]
    return Launch(
        [runtime, "run", *options, "--entrypoint", command[0], values.image, *command[1:]],
        {**host, **variables},
        step_folder,
        None,
        runtime,
        _dropped(values.variables),
    )


def _write_script(step_folder: Path, script: str) -> Path:
    path = step_folder / "script"
    with step_files.create(path, 0o644) as file:
        file.write(script.encode())
    return path


def _interpreter(script: str) -> list[str]:
    """The interpreter in the first line of a script, as the kernel reads it; by default Tekton's.

    The file itself is never executed: the kernel may refuse that (`text file busy`) while another thread forks.
    """
    first = script.split("\n", 1)[0]
    if not first.startswith("#!") or not first[2:].strip():
        return ["/bin/sh", "-e"]
    return first[2:].strip().split(maxsplit=1)


def _dropped(variables: Mapping[str, str]) -> list[str]:
    return [name for name in variables if not _SHELL_NAME.fullmatch(name)]
