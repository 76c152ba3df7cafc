"""DVC pipelines as trainings: `dvc repro` by the environment's own DVC, its stages in their order.

Parameters are values of `params.yaml` beside `dvc.yaml`. A checkout that is no git repository is a DVC project without source control.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fuseml.steps import mlproject, sdk

FILE = "dvc.yaml"
PULL_ALL = "pull"
"""The step input `data` for all data of the codeset."""
_PARAMETERS = "params.yaml"
_ERROR = "ERROR: "
# DVC's extra for the scheme of a remote.
_EXTRAS = {"s3": "s3", "gs": "gs", "azure": "azure", "ssh": "ssh", "oss": "oss", "hdfs": "hdfs", "webhdfs": "webhdfs"}


def command(path: str, stage: str = "") -> str:
    """The command that brings the pipeline, or one stage of it, up to date."""
    target = shlex.quote(f"{path}:{stage}" if stage else path)
    return mlproject.literal(f"python -m dvc repro {target}")


def commands(text: str) -> list[str]:
    """The commands of the stages of a dvc.yaml. Raises StepError naming the stage."""
    found: list[str] = []
    for name, value in mlproject.mapping(mlproject.mapping(mlproject.load(text, FILE), FILE).get("stages"), f"{FILE}: stages").items():
        stage = mlproject.mapping(value, f"{FILE}: stages.{name}")
        stage = mlproject.mapping(stage["do"], f"{FILE}: stages.{name}.do") if "do" in stage else stage
        given = stage.get("cmd")
        found += [str(line) for line in given] if isinstance(given, list) else [str(given or "")]
    return found


def runs(commands: Sequence[str], file: str) -> bool:
    """Whether one of the commands names the file."""
    return any(re.search(rf"(?<![\w./-]){re.escape(file)}(?![\w-])", line) for line in commands)


def requirements(folder: Path) -> list[str]:
    """The package of DVC, with the extras for the remotes of the codeset."""
    extras = sorted({_EXTRAS[scheme] for url in _remotes(folder) if (scheme := url.partition("://")[0]) in _EXTRAS})
    return [f"dvc[{','.join(extras)}]" if extras else "dvc"]


def _remotes(folder: Path) -> Iterator[str]:
    home = home_of(folder)
    if home is None or not (home / ".dvc" / "config").is_file():
        return
    config = _configuration(home, ".dvc/config")
    for section in config.sections():
        if "remote" in section:
            yield config[section].get("url", "")


def _configuration(home: Path, name: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read_string(sdk.read_file(home, name))
    except configparser.Error:
        # Without its text, which may hold the password of a remote.
        raise sdk.StepError(f"{name}: is not a configuration of DVC; `dvc config --list` names the line") from None
    return config


def home_of(folder: Path) -> Path | None:
    """The folder with `.dvc`: `folder` or one above it within the codeset; None without one."""
    root = sdk.codeset_root(folder)
    within = [folder, *(path for path in folder.parents if path == root or root in path.parents)]
    return next((path for path in within if (path / ".dvc").is_dir()), None)


def prepare(folder: Path) -> dict[str, str]:
    """Make `folder` a DVC project that works in this checkout. Returns variables for DVC. Raises StepError without DVC."""
    # DVC's own places are outside of what a confined step may use.
    variables = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(sdk.codeset_root(folder) / ".fuseml" / "dvc")}
    home = home_of(folder)
    if home is None:
        run(["init", "--no-scm"], folder, variables)
    elif not (sdk.codeset_root(folder) / ".git").exists():
        local = home / ".dvc" / "config.local"
        config = _configuration(home, ".dvc/config.local") if local.exists() else configparser.ConfigParser(interpolation=None)
        config.read_dict({"core": {"no_scm": "true"}})
        with local.open("w", encoding="utf-8") as file:
            config.write(file)
    return variables


def run(arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run DVC with its messages in the step's log. Raises StepError with its error, or its last line."""
    command = [sys.executable, "-m", "dvc", *arguments]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            sdk.say(line.rstrip())
            lines.append(line.strip())
    if process.returncode != 0:
        # DVC's last line may be advice.
        error = next((line[len(_ERROR) :] for line in reversed(lines) if line.startswith(_ERROR)), "")
        last = error or next((line for line in reversed(lines) if line), f"exit code {process.returncode}")
        if "No module named dvc" in last:
            raise sdk.StepError("the environment has no DVC: add dvc to the codeset's dependencies")
        raise sdk.StepError(f"dvc {' '.join(arguments)}: {last}")


def pull(folder: Path, wanted: str, variables: Mapping[str, str]) -> None:
    """Fetch the codeset's data from its DVC remote: the files and folders that `wanted` names, or all of it (`pull`)."""
    try:
        targets = [] if wanted == PULL_ALL else shlex.split(wanted)
    except ValueError as error:
        raise sdk.StepError(f"the step input 'data' cannot be split into names: {error}; quote each name") from None
    for target in targets:
        if not ((folder / target).exists() or (folder / f"{target}.dvc").exists() or _is_output(folder, target)):
            raise sdk.StepError(f"the step input 'data' names '{target}', of which the codeset has no {target}.dvc and no output in {FILE}")
    sdk.say(f"pulling {', '.join(targets) or 'all data'} by DVC")
    run(["pull", *targets], folder, variables)


def _is_output(folder: Path, target: str) -> bool:
    return (folder / FILE).is_file() and target in sdk.read_file(folder, FILE)


def set_parameters(folder: Path, values: Mapping[str, str]) -> None:
    """Write values into params.yaml, by keys such as `train.alpha`. Raises StepError for a key that is not there."""
    if not values:
        return
    import yaml

    if not (folder / _PARAMETERS).is_file():
        raise sdk.StepError(f"the pipeline takes no parameters: there is no {_PARAMETERS} beside {FILE}; given: {', '.join(values)}")
    data = mlproject.mapping(mlproject.load(sdk.read_file(folder, _PARAMETERS), _PARAMETERS), _PARAMETERS)
    known = dict(_leaves(data))
    for name, text in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise sdk.StepError(f"{_PARAMETERS} has no '{name}' (it has: {', '.join(known) or 'nothing'}){hint}")
        holder, key = known[name]
        holder[key] = _typed(text)
    (folder / _PARAMETERS).write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def _leaves(data: dict[str, object], prefix: str = "") -> Iterator[tuple[str, tuple[dict[str, object], str]]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", (data, key)


def _typed(text: str) -> object:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
