"""What exactly is executed for a step: command line, environment and folder of the process, native or through a container runtime.

Secrets get into the environment only; `admission` has refused them everywhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import errors, plans
from fuseml.engines.local import implementations, journal, resources

CONTAINER_RESULTS = "/tekton/results"
_CONTAINER_SCRIPT = "/tekton/scripts/script"
# What a POSIX shell, and so the one that starts the step, hands on to its children.
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Launch:
    """Ready to start. `runtime` is the container program, if any; `dropped` are variables no shell can hand on."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    data_limit: int | None
    runtime: str | None = None
    dropped: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A step with its values known."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    script: str
    variables: Mapping[str, str]


def evaluate(step: plans.StepPlan, outputs: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str]) -> Evaluated:
    """Put recorded outputs and secrets into the step's values. Raises PermanentError when an output is missing."""

    def text(value: plans.Value) -> str:
        return plans.evaluate(value, outputs, lambda part: secrets[part.ref])

    return Evaluated(
        image=text(step.image),
        command=tuple(map(text, step.command)),
        args=tuple(map(text, step.args)),
        script=text(step.script),
        variables={variable.name: text(variable.value) for variable in step.variables},
    )


def container_name(run_id: str, step: str, number: int) -> str:
    """The name of the container of one attempt; it follows from the attempt, so that a later server can stop it."""
    return f"fuseml-{run_id}-{step}-{number}"


def native(
    step: plans.StepPlan,
    values: Evaluated,
    found: implementations.Native,
    folder: journal.RunFolder,
    host: Mapping[str, str],
    environments: Path,
) -> Launch:
    """The step as a plain process. Raises PermanentError when there is nothing to execute."""
    place = folder.step_path(step.name)
    work, home, temporary = (place / name for name in ("work", "work/home", "work/tmp"))
    for path in (home, temporary):
        path.mkdir(parents=True, exist_ok=True)
    if values.script:
        script = place / "script"
        script.write_text(values.script, encoding="utf-8")
        command = [*_interpreter(values.script), str(script), *values.args]
    else:
        command = [*(values.command or found.command), *values.args]
    if not command:
        raise errors.PermanentError(f"the image {values.image!r} has no program of its own: give the step a command or a script")
    path_variable = os.pathsep.join(filter(None, (str(found.programs) if found.programs else "", host.get("PATH", os.defpath))))
    environment = {
        "LANG": "C.UTF-8",
        **found.environment,
        **host,
        "PATH": path_variable,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "FUSEML_ENVIRONMENTS": str(environments),
        **resources.thread_variables(step.resources.limits),
        **values.variables,
        "FUSEML_ENV_RESULTS": str(place / "results"),
    }
    return Launch(
        command,
        environment,
        folder.checkout_path(step.checkouts[0]) if step.checkouts else work,
        resources.data_limit(step.resources.limits),
        dropped=_dropped(values.variables),
    )


def container(
    step: plans.StepPlan, values: Evaluated, runtime: str, folder: journal.RunFolder, name: str, host: Mapping[str, str]
) -> Launch:
    """The step in a container. Values of variables go through the runtime's own environment, their names through its arguments."""
    place = folder.step_path(step.name)
    # label=disable: without it SELinux keeps a container from the folders that it is given.
    options = ["--rm", "--name", name, "--network", "host", "--security-opt", "label=disable"]
    for checkout in step.checkouts:
        options += ["--volume", f"{folder.checkout_path(checkout)}:{checkout.path}"]
    options += ["--volume", f"{place / 'results'}:{CONTAINER_RESULTS}"]
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
        (place / "script").write_text(values.script, encoding="utf-8")
        options += ["--volume", f"{place / 'script'}:{_CONTAINER_SCRIPT}:ro"]
        command = [*_interpreter(values.script), _CONTAINER_SCRIPT, *values.args]
    else:
        command = [*(values.command or ("run",)), *values.args]
    return Launch(
        [runtime, "run", *options, "--entrypoint", command[0], values.image, *command[1:]],
        {**host, **variables},
        place,
        None,
        runtime,
        _dropped(values.variables),
    )


def _interpreter(script: str) -> list[str]:
    """What runs a script, as the kernel reads its first line; Tekton's default where there is none.

    The file itself is never executed: while another thread forks, the kernel may refuse that as `text file busy`.
    """
    first = script.split("\n", 1)[0]
    if not first.startswith("#!") or not first[2:].strip():
        return ["/bin/sh", "-e"]
    return first[2:].strip().split(maxsplit=1)


def _dropped(variables: Mapping[str, str]) -> list[str]:
    return [name for name in variables if not _SHELL_NAME.fullmatch(name)]
