"""The file that describes the environment of a codeset, found in one order.

1. the file that the step names in its input `dependencies`; 2. the one that MLproject names, else MLflow's own names beside an MLproject;
3. `uv.lock`, `pylock.toml`; 4. `pyproject.toml` with dependencies; 5. `requirements.txt`, else the only other requirements file;
6. `environment.yaml`; 7. `conda.yaml`; 8. `Pipfile.lock`, `Pipfile`; 9. `setup.py`, `setup.cfg`; 10. none: the running environment.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from fuseml.steps import mlproject, sdk
from fuseml.steps.dependencies import checkout, conda, pipfile, poetry, pyproject, python_env, pythons, requirements, yaml_fields

PYTHON_ENV = "python_env.yaml"
_CONDA = ("environment.yaml", "environment.yml", "conda.yaml", "conda.yml")
# Requirements files of other uses than training, e.g. requirements-dev.txt.
_OTHER_USES = re.compile(r"dev|test|lint|doc|docs|ci|build|gpu|cuda|notebook|deploy|optional|extra|extras|all")
ORDER = "uv.lock, pylock.toml, pyproject.toml, requirements.txt, environment.yaml, conda.yaml, Pipfile.lock, Pipfile, setup.py, setup.cfg"

BUILT_IN = requirements.Environment("the built-in environment", additions=("mlflow", "scikit-learn"))
"""FuseML's own environment, for a codeset without a dependency file."""


@dataclass(frozen=True)
class Choices:
    """A file, extras and groups of its project, and whether micromamba makes the environments of conda files."""

    file: str = ""
    micromamba: bool = False
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def environment(files: checkout.Folder, choices: Choices, export: pyproject.Export) -> requirements.Environment:
    """The environment of the codeset; `BUILT_IN` if no file describes one. Raises StepError naming the file and the place that is wrong."""
    name, why = _file(files, choices.file)
    if not _has_parts(name):
        expect_no_parts(name or "a codeset without a dependency file", extras=choices.extras, groups=choices.groups)
    if not name:
        sdk.say(f"no file describes an environment ({ORDER}): the built-in environment is used, with MLflow and scikit-learn")
        return BUILT_IN
    sdk.say(f"dependencies: {name} ({why})")
    found = _read(name, files, choices, export)
    return _with_mlflow(_with_version_file(replace(found, contents=(*found.contents, *_settings_of_uv(files, found.folder))), files))


def _settings_of_uv(files: checkout.Folder, folder: str) -> list[str]:
    """uv runs in the file's folder, as it does for the author, and reads the settings of the folders above, too."""
    own = files.folder / folder
    places = [place for place in (own, *own.parents) if place == files.root or files.root in place.parents]
    return [setting for place in places for setting in pyproject.uv_settings(checkout.Folder(place, files.root))]


def _file(files: checkout.Folder, chosen: str) -> tuple[str, str]:
    """The name of the file and the reason for it; empty if there is none."""
    if chosen:
        if not files.has(chosen):
            raise sdk.StepError(f"the input 'dependencies' names '{chosen}', and the codeset has no such file")
        return chosen, "named by the input 'dependencies'"
    names = files.names()
    project_file = mlproject.file_name(names)
    if project_file:
        project = mlproject.parse(files.read(project_file), project_file)
        if project.docker:
            raise sdk.StepError(
                f"{project_file}: docker_env: only a cluster trains in the image {project.docker.image}, and this engine runs the training as "
                "a process; name its requirements in a python_env, or in the input 'dependencies'"
            )
        named = project.python_env or project.conda_env
        if named:
            return named, f"named by {project_file}"
        for name in (PYTHON_ENV, "conda.yaml"):
            if name in names:
                return name, f"MLflow's default beside {project_file}"
    present = _in_order(files, names)
    if not present:
        return "", ""
    return present[0], f"not used: {', '.join(present[1:])}" if present[1:] else "the only one"


def _in_order(files: checkout.Folder, names: list[str]) -> list[str]:
    found: list[str] = [name for name in ("uv.lock", "pylock.toml") if name in names]
    if "pyproject.toml" in names:
        data = pyproject.load(files)
        if _is_poetry(data, names) or pyproject.declares_dependencies(data):
            found.append("pyproject.toml")
        else:
            sdk.say("note: pyproject.toml declares no dependencies")
            found = [name for name in found if name != "uv.lock"]
    found += _requirements_files(names, found)
    found += [name for name in (PYTHON_ENV, *_CONDA, "Pipfile.lock", "Pipfile", "setup.py", "setup.cfg") if name in names]
    if "pyproject.toml" not in found and "pyproject.toml" in names and "build-system" in pyproject.load(files) and not found:
        found.append("pyproject.toml")
    return found


def _requirements_files(names: Iterable[str], found: list[str]) -> list[str]:
    candidates = [name for name in names if re.fullmatch(r"requirements.*\.txt", name)]
    if "requirements.txt" in candidates:
        return ["requirements.txt"]
    training = [name for name in candidates if not any(_OTHER_USES.fullmatch(part) for part in re.split(r"[-_.]", name)[1:-1])]
    if len(training) > 1 and not found:
        raise sdk.StepError(f"the codeset has several requirements files: {', '.join(training)}; name one in the input 'dependencies'")
    return training[:1]


def _read(name: str, files: checkout.Folder, choices: Choices, export: pyproject.Export) -> requirements.Environment:
    folder, _, last = name.rpartition("/")
    if last.endswith((".yaml", ".yml")):
        return _of_yaml(name, files, choices.micromamba)
    if _has_parts(name):
        found = _of_project(last, checkout.Folder(files.folder / folder, files.root), choices, export)
        return replace(found, source=f"{folder}/{found.source}".lstrip("/"), folder=folder)
    if re.fullmatch(r"pylock(\..+)?\.toml", last):
        return pyproject.of_pylock(name, files)
    return requirements.of_file(name, files)


def expect_no_parts(source: str, **given: Collection[str]) -> None:
    """Raises StepError if an input, such as `extras`, names a part where the source of the environment has no parts of its kind."""
    if any(given.values()):
        inputs = " and ".join(f"'{name}'" for name in given)
        raise sdk.StepError(
            f"{source} has no {' or '.join(given)}: remove the input{'s' if len(given) > 1 else ''} {inputs}, or name a pyproject.toml"
        )


def _of_project(name: str, files: checkout.Folder, choices: Choices, export: pyproject.Export) -> requirements.Environment:
    """The environment of a file of a project that may have extras or groups."""
    match name:
        case "uv.lock":
            return pyproject.of_uv_lock(files, pyproject.load(files), choices.extras, choices.groups, export)
        case "pyproject.toml":
            data = pyproject.load(files)
            if _is_poetry(data, files.names()):
                return poetry.of_project(files.folder, data, choices.extras, choices.groups)
            return pyproject.of_project(files, data, choices.extras, choices.groups)
        case "Pipfile.lock":
            expect_no_parts(name, extras=choices.extras)
            return pipfile.of_lock(files, choices.groups)
        case "Pipfile":
            expect_no_parts(name, extras=choices.extras)
            return pipfile.of_pipfile(files, choices.groups)
    expect_no_parts(name, groups=choices.groups)
    if name == "setup.cfg":
        return _of_setup_cfg(files, choices.extras)
    extras = f"[{','.join(choices.extras)}]" if choices.extras else ""
    return requirements.of_lines(requirements.Environment(name), [f".{extras}"], name, files)


def _of_yaml(name: str, files: checkout.Folder, micromamba: bool) -> requirements.Environment:
    """MLflow's or conda's file; the content distinguishes them."""
    data = mlproject.mapping(mlproject.load(files.read(name), name), name)
    listed = yaml_fields.items(data, "dependencies", name)
    if not ("channels" in data or re.search(r"conda|environment", name) or any(isinstance(item, dict) for item in listed)):
        return python_env.parse(name, data, files)
    if micromamba:
        return conda.for_micromamba(name, data, files)
    return conda.parse(name, data, files)


def _of_setup_cfg(files: checkout.Folder, extras: Collection[str]) -> requirements.Environment:
    """Its requirements only: no tool installs a project that has this file alone."""
    name, parser = "setup.cfg", configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(files.read(name), name)
    except configparser.Error as error:
        raise sdk.StepError(f"{name}: {error}") from None
    lines = parser.get("options", "install_requires", fallback="").splitlines()
    for extra in extras:
        if not parser.has_option("options.extras_require", extra):
            raise sdk.StepError(f"{name}: options.extras_require: there is no extra '{extra}'")
        lines += parser.get("options.extras_require", extra).splitlines()
    python = parser.get("options", "python_requires", fallback="")
    spec = requirements.Environment(name, python=pythons.specifier(python, f"{name}: options.python_requires") if python else "")
    return requirements.of_lines(spec, [line.strip() for line in lines if line.strip()], f"{name}: options.install_requires", files)


def _is_poetry(data: dict[str, object], names: Collection[str]) -> bool:
    tool = mlproject.mapping(data.get("tool"), "pyproject.toml: tool")
    own = mlproject.mapping(tool.get("poetry"), "pyproject.toml: tool.poetry")
    return bool({"dependencies", "group", "dev-dependencies"} & set(own)) or (bool(own) and "poetry.lock" in names)


def _has_parts(name: str) -> bool:
    return name.rpartition("/")[2] in ("uv.lock", "pyproject.toml", "Pipfile", "Pipfile.lock", "setup.py", "setup.cfg")


def _with_version_file(found: requirements.Environment, files: checkout.Folder) -> requirements.Environment:
    """The version of `.python-version`, where the file itself leaves it open."""
    if found.conda or not files.has(".python-version") or found.python.startswith("=="):
        return found
    version = pythons.of_version_file(files.read(".python-version"))
    if not version:
        return replace(found, notes=(*found.notes, ".python-version: is not used, because it names no version of Python"))
    return replace(found, python=pythons.specifier(version, ".python-version"))


def _with_mlflow(found: requirements.Environment) -> requirements.Environment:
    if "mlflow-skinny" in found.names():
        return found
    return requirements.added(found, ["mlflow"], "which records the training and serves the model")
