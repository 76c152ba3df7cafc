"""The command line, environment and folder of the process of a step, native or in a container.

Secrets appear in the environment, and in files for the step alone; `admission` rejects them everywhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import errors, plans
from fuseml.domain.plans import image_building, transfers
from fuseml.domain.workflows import references
from fuseml.domain.workflows.resources import quantity
from fuseml.engines import step_files
from fuseml.engines.local import implementations, journal, resources
from fuseml.engines.local.devices import OfContainer

CONTAINER_RESULTS = "/tekton/results"
_CONTAINER_SCRIPT = "/tekton/scripts/script"
_CONTAINER_FILES = "/fuseml-files"
_CONTAINER_CREDENTIALS = "/fuseml-credentials"
_VARIABLES = "variables"
_FILES = "files"
# The variables that container programs, and the libraries and helpers that they load, read themselves.
_OF_RUNTIMES = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "USER", "LOGNAME", "SHELL", "HOSTNAME", "PWD", "BASH_ENV", "ENV", "IFS", "SHELLOPTS"),
        *(
            "NOTIFY_SOCKET",
            "REGISTRY_AUTH_FILE",
            "GCONV_PATH",
            "GETCONF_DIR",
            "HOSTALIASES",
            "LOCALDOMAIN",
            "LOCPATH",
            "NLSPATH",
            "RES_OPTIONS",
        ),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZDIR", "OPTIND", "PS4"),
    }
)
_PREFIXES_OF_RUNTIMES = (
    *("LD_", "DYLD_", "GLIBC_", "MALLOC_", "GO", "DOCKER_", "BUILDKIT_", "BUILDX_", "COMPOSE_", "PODMAN_", "CONTAINER", "BUILDAH_"),
    *("STORAGE_", "XDG_", "DBUS_", "SSH_", "LISTEN_", "OTEL_", "_"),
)


@dataclass(frozen=True, slots=True)
class Launch:
    """The arguments of a process. `runtime` is the container program, if any; `read` and `write` are the paths of a native step, which is
    `confined` to them, and `stores` folders of artifact stores that it may write, too.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    data_limit: int | None
    runtime: str | None = None
    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    confined: bool = True
    stores: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class StepValues:
    """The values of a step as text."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    script: str
    variables: Mapping[str, str]


def evaluate(
    step: plans.StepPlan, outputs: Mapping[str, Mapping[str, str]], secrets: Mapping[str, str], credentials: Path | None = None
) -> StepValues:
    """The step's values with outputs and secrets inserted, for secrets in files their paths below `credentials`; None: in a container.

    Raises PermanentError when an output is missing.
    """

    def secret(part: plans.SecretPart) -> str:
        return f"{credentials or _CONTAINER_CREDENTIALS}/{part.path}" if part.path else secrets[part.ref]

    def text(value: plans.Value) -> str:
        return plans.evaluate(value, outputs, secret)

    return StepValues(
        image=text(step.image),
        command=tuple(map(text, step.command)),
        args=tuple(map(text, step.args)),
        script=text(step.script),
        variables={variable.name: text(variable.value) for variable in step.variables},
    )


def evaluate_image(step: plans.StepPlan, outputs: Mapping[str, Mapping[str, str]]) -> str:
    """The image of the step, which holds no secret. Raises PermanentError when an output is missing."""
    return plans.evaluate(step.image, outputs, plans.no_secret)


def container_name(run_id: str, step: str, number: int) -> str:
    """The name of the container of one attempt. It is derived from the attempt, so that a later server can stop the container."""
    return f"fuseml-{run_id}-{step}-{number}"


def native(
    step: plans.StepPlan,
    values: StepValues,
    implementation: implementations.Native,
    folder: journal.RunFolder,
    host: Mapping[str, str],
    devices: Mapping[str, str],
) -> Launch:
    """The step as a plain process that sees its devices by the variables `devices`. Raises PermanentError when the step has no program."""
    step_folder = folder.step_path(step.name)
    work, home, temporary = step_folder / "work", step_folder / "work" / "home", folder.temporary(step.name)
    for path in (home, temporary, *implementation.writes):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    read = [*implementation.reads, *_write_files(step_folder, step), *_credentials(folder, step)]
    if values.script:
        script = _write_script(step_folder, values.script)
        command = [*_interpreter(values.script), str(script), *values.args]
        read.append(script)
    else:
        command = [*(values.command or implementation.command), *values.args]
    if not command:
        raise errors.PermanentError(f"the image {values.image!r} has no default command; give the step a command or a script")
    path_variable = os.pathsep.join(
        filter(None, (str(implementation.programs) if implementation.programs else "", host.get("PATH", os.defpath)))
    )
    environment = {
        "LANG": "C.UTF-8",
        **host,
        **implementation.environment,
        "PATH": path_variable,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        **resources.thread_variables(step.resources.limits),
        **values.variables,
        **_paths_of_inputs(step, values, folder),
        **{item.variable: str(step_folder / _FILES / item.name) for item in step.files},
        # After the step's own: another step may hold the device that they name.
        **devices,
        "FUSEML_ENV_RESULTS": str(step_folder / "results"),
    }
    checkouts = [folder.checkout_path(checkout) for checkout in step.checkouts]
    read += [folder.input_path(step.name, fetch.name) for fetch in transfers.contents(step)]
    return Launch(
        command,
        environment,
        folder.directory(step),
        resources.data_limit(step.resources.limits),
        read=read,
        write=[work, temporary, step_folder / "results", *checkouts, *implementation.writes],
        # Only the step of a plan: that of a workflow could have variables or a command of its own.
        confined=not (implementation.starts_builder and image_building.builds(step)),
    )


def conversion(
    step: plans.StepPlan,
    variables: Mapping[str, str],
    folder: journal.RunFolder,
    host: Mapping[str, str],
    read: Sequence[Path],
    stores: Sequence[Path],
) -> Launch:
    """The step that copies an artifact, as a process with these variables, which reads and writes folders of stores."""
    step_folder = folder.step_path(step.name)
    home, temporary = step_folder / "work" / "home", folder.temporary(step.name)
    for path in (home, temporary):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "FUSEML_ENV_RESULTS": str(step_folder / "results")}
    return Launch(
        [sys.executable, "-P", "-m", transfers.CONVERT_MODULE],
        {**host, **variables, **own},
        home,
        None,
        read=read,
        write=[home, temporary, step_folder / "results"],
        stores=stores,
    )


def _paths_of_inputs(step: plans.StepPlan, values: StepValues, folder: journal.RunFolder) -> dict[str, str]:
    """The variables of the artifacts that the step reads: a process has no folder of its own at their paths."""
    named = {references.variable(fetch.name): fetch for fetch in transfers.contents(step)}
    # A workflow may set the variable itself; its value stays.
    return {
        name: str(folder.input_path(step.name, fetch.name)) for name, fetch in named.items() if values.variables.get(name) == fetch.path
    }


def container(
    step: plans.StepPlan,
    values: StepValues,
    runtime: str,
    folder: journal.RunFolder,
    name: str,
    host: Mapping[str, str],
    passed: Sequence[str] = (),
    secrets: Collection[str] = (),
    *,
    devices: OfContainer,
) -> Launch:
    """The step in a container. The runtime reads the values of variables from its own environment, their names from its arguments.

    Variables that the runtime would use itself, such as PATH and LD_PRELOAD, are in a file for it instead. Raises PermanentError for such a
    variable with a secret or with several lines: the file has no form for them.
    """
    step_folder = folder.step_path(step.name)
    # label=disable: without it, SELinux denies a container access to its mounted folders.
    options = ["--rm", "--name", name, "--network", "host", "--security-opt", "label=disable"]
    for checkout in step.checkouts:
        options += ["--volume", f"{folder.checkout_path(checkout)}:{checkout.path}"]
    options += ["--volume", f"{step_folder / 'results'}:{CONTAINER_RESULTS}"]
    for fetch in transfers.contents(step):
        options += ["--volume", f"{folder.input_path(step.name, fetch.name)}:{fetch.path}:ro"]
    if step.checkouts:
        options += ["--workdir", step.checkouts[0].directory]
    elif step.collects:
        work = folder.directory(step)
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        options += ["--volume", f"{work}:{transfers.WORK}", "--workdir", transfers.WORK]
    limits = step.resources.limits
    if "cpu" in limits:
        options += ["--cpus", f"{quantity(limits['cpu']):f}"]
    if "memory" in limits:
        options += ["--memory", str(int(quantity(limits["memory"])))]
    options += devices.options
    inherited = {name: host[name] for name in passed if name not in devices.withheld}
    files = {item.variable: f"{_CONTAINER_FILES}/{item.name}" for item in step.files}
    if _write_files(step_folder, step):
        options += ["--volume", f"{step_folder / _FILES}:{_CONTAINER_FILES}:ro"]
    for credentials in _credentials(folder, step):
        options += ["--volume", f"{credentials}:{_CONTAINER_CREDENTIALS}:ro"]
    variables = {**inherited, **values.variables, **files, **devices.variables, "FUSEML_ENV_RESULTS": CONTAINER_RESULTS}
    own = {name: value for name, value in variables.items() if _is_of_runtimes(name) and host.get(name) != value}
    for variable in variables:
        if variable not in own:
            options += ["--env", variable]
    if own:
        options += ["--env-file", str(_write_variables(step_folder, own, secrets))]
    if values.script:
        options += ["--volume", f"{_write_script(step_folder, values.script)}:{_CONTAINER_SCRIPT}:ro"]
        command = [*_interpreter(values.script), _CONTAINER_SCRIPT, *values.args]
    else:
        command = [*(values.command or ("run",)), *values.args]
    return Launch(
        [runtime, "run", *options, "--entrypoint", command[0], values.image, *command[1:]],
        {**host, **{name: value for name, value in variables.items() if name not in own}},
        step_folder,
        None,
        runtime,
    )


def _is_of_runtimes(name: str) -> bool:
    return name.upper() in _OF_RUNTIMES or name.upper().startswith(_PREFIXES_OF_RUNTIMES)


def _write_variables(step_folder: Path, variables: Mapping[str, str], secrets: Collection[str]) -> Path:
    for name, value in variables.items():
        if any(secret and secret in value for secret in secrets):
            raise errors.PermanentError(
                f"the container program reads the variable {name!r} itself, so it cannot hold a secret; use another name"
            )
        if len(value.splitlines()) > 1:
            raise errors.PermanentError(
                f"the container program reads the variable {name!r} itself, so its value cannot have several lines; use another name"
            )
    path = step_folder / _VARIABLES
    with step_files.create(path) as file:
        file.write("".join(f"{name}={value}\n" for name, value in variables.items()).encode())
    return path


def _write_script(step_folder: Path, script: str) -> Path:
    path = step_folder / "script"
    with step_files.create(path, 0o644) as file:
        file.write(script.encode())
    return path


def _write_files(step_folder: Path, step: plans.StepPlan) -> list[Path]:
    folder = step_folder / _FILES
    if step.files:
        # Whatever the umask: a container may read them as another user.
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    for item in step.files:
        with step_files.create(folder / item.name, 0o644) as file:
            file.write(item.text.encode())
    return [folder] if step.files else []


def _credentials(folder: journal.RunFolder, step: plans.StepPlan) -> list[Path]:
    """The folder of the secrets that the step gets as files, which `credentials.write` fills; none without such."""
    return [folder.credentials(step.name)] if plans.secret_files(step) else []


def _interpreter(script: str) -> list[str]:
    """The interpreter in the first line of a script, as the kernel reads it; by default Tekton's.

    The file itself is never executed: the kernel may refuse that (`text file busy`) while another thread forks.
    """
    first = script.split("\n", 1)[0]
    if not first.startswith("#!") or not first[2:].strip():
        return ["/bin/sh", "-e"]
    return first[2:].strip().split(maxsplit=1)
