"""The MLproject file: the environment of a project, its entry points and their command lines.

Pure rules, equal to MLflow's (`mlflow.projects`), whose import takes seconds. Two are stricter: a `float` parameter must be a number, as
MLflow's documentation promises, and every error names the file and the key.
"""

from __future__ import annotations

import difflib
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.steps import sdk

# The interpreter of an entry point that is a file instead of a name in MLproject.
_INTERPRETERS = {".py": "python", ".sh": "bash"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry point; without a default it needs a value. Types other than float, path and uri are text, as in MLflow."""

    name: str
    type: str = "string"
    default: str | None = None


@dataclass(frozen=True)
class EntryPoint:
    """A command with `{name}` placeholders. `key` is its place in the file, for messages.

    `flag` precedes the name of a parameter that is not declared, as in MLflow; with None the command takes no such parameter.
    """

    name: str
    command: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    key: str = "MLproject"
    flag: str | None = "--"

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """The value of every parameter: given or the default, and then the undeclared ones. Raises StepError for missing and ill-typed ones."""
        values: dict[str, str] = {}
        for parameter in self.parameters.values():
            value = given.get(parameter.name, parameter.default)
            if value is None:
                where = f"{self.key}.parameters.{parameter.name}"
                raise sdk.StepError(
                    f"{where}: no value: run the workflow with `-i {parameter.name}=VALUE`, set the step input '{parameter.name}', "
                    "or give the parameter a default"
                )
            values[parameter.name] = value
            self._check(parameter, value)
        return {**values, **{name: value for name, value in given.items() if name not in values}}

    def suspects(self, given: Iterable[str]) -> dict[str, str]:
        """Undeclared names that are probably misspelt -> the declared name."""
        close = {name: difflib.get_close_matches(name, list(self.parameters), 1) for name in given if name not in self.parameters}
        return {name: found[0] for name, found in close.items() if found}

    def _check(self, parameter: Parameter, value: str) -> None:
        where = f"{self.key}.parameters.{parameter.name}"
        if parameter.type == "float":
            try:
                float(value)
            except ValueError:
                raise sdk.StepError(f"{where}: the value '{value}' is not a number, and the parameter is a float") from None
        elif parameter.type == "uri" and not _has_scheme(value):
            raise sdk.StepError(f"{where}: the value '{value}' is not a URI, and the parameter is a uri")

    def logged(self, values: Mapping[str, str]) -> dict[str, str]:
        """The declared values to log. A float has Python's form: MLflow refuses a parameter that changes, and the training code logs `1.0`
        for `1`.
        """
        return {
            name: str(float(values[name])) if parameter.type == "float" else values[name] for name, parameter in self.parameters.items()
        }

    def command_line(self, values: Mapping[str, str]) -> str:
        """The command for the shell. Every value is quoted, so no value becomes a command."""
        quoted = {name: shlex.quote(value) for name, value in values.items()}
        undeclared = [] if self.flag is None else [name for name in values if name not in self.parameters]
        try:
            command = self.command.format(**{name: text for name, text in quoted.items() if name in self.parameters})
            return " ".join([command, *(f"{self.flag}{shlex.quote(name)} {quoted[name]}" for name in undeclared)])
        except (KeyError, IndexError) as error:
            name = str(error).strip("'")
            raise sdk.StepError(
                f"{self.key}.command: '{{{name}}}' is not a declared parameter; declare it under {self.key}.parameters"
            ) from None
        except (ValueError, AttributeError) as error:
            message = f"{self.key}.command: {error}; write a literal brace as '{{{{' or '}}}}'"
            raise sdk.StepError(message) from None


@dataclass(frozen=True)
class Docker:
    """The `docker_env` of an MLproject file: an image, variables to set in it, and what MLflow takes from the host for it."""

    image: str
    variables: Mapping[str, str] = field(default_factory=dict)
    copied: Sequence[str] = ()
    volumes: bool = False


@dataclass(frozen=True)
class Project:
    """An MLproject file. At most one of the three environment fields is set."""

    entry_points: Mapping[str, EntryPoint]
    name: str = ""
    python_env: str | None = None
    conda_env: str | None = None
    docker: Docker | None = None


def _has_scheme(value: str) -> bool:
    try:
        return bool(urllib.parse.urlsplit(value).scheme)
    except ValueError:  # such as http://[
        return False


def script(name: str) -> EntryPoint:
    """The entry point that runs a .py or .sh file."""
    return EntryPoint(name, f"{_INTERPRETERS[name[name.rindex('.') :]]} " + literal(shlex.quote(name)))


def literal(text: str) -> str:
    """The text as a part of a command, without placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def file_name(names: Iterable[str]) -> str | None:
    """The name of the MLproject file among those of a folder, in any case, as in MLflow."""
    return next((name for name in sorted(names) if name.lower() == "mlproject"), None)


def parse(text: str, source: str = "MLproject") -> Project:
    """Read the text of an MLproject file. Raises StepError naming the file and the key (or line) that is wrong."""
    data = mapping(load(text, source), source)
    environments = [key for key in ("python_env", "conda_env", "docker_env") if data.get(key)]
    if len(environments) > 1:
        raise sdk.StepError(f"{source}: {' and '.join(environments)}: a project has one environment; keep one of them")
    entry_points: dict[str, EntryPoint] = {}
    for key, value in mapping(data.get("entry_points"), f"{source}: entry_points").items():
        entry_points[key] = _entry_point(key, value, f"{source}: entry_points.{key}")
    return Project(
        entry_points,
        name=str(data.get("name") or ""),
        python_env=_text(data, "python_env", source),
        conda_env=_text(data, "conda_env", source),
        docker=_docker(mapping(data.get("docker_env"), f"{source}: docker_env"), f"{source}: docker_env"),
    )


def _docker(data: Mapping[str, object], key: str) -> Docker | None:
    if not data:
        return None
    image = _text(data, "image", key)
    if not image:
        raise sdk.StepError(f"{key}.image: is missing; name the image of the training")
    listed = data.get("environment") or []
    items = listed if isinstance(listed, list) else [None]
    pairs = {str(item[0]): str(item[1]) for item in items if isinstance(item, list) and len(item) == 2}
    copied = [item for item in items if isinstance(item, str)]
    if len(pairs) + len(copied) != len(items) or any(not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in (*pairs, *copied)):
        raise sdk.StepError(f"{key}.environment: must be a list of names of variables and of pairs [NAME, value]")
    return Docker(image, pairs, copied, bool(data.get("volumes")))


def _entry_point(name: str, value: object, key: str) -> EntryPoint:
    data = mapping(value, key)
    command = _text(data, "command", key)
    if not command:
        raise sdk.StepError(f"{key}.command: is missing; write the command that starts the training")
    parameters: dict[str, Parameter] = {}
    for parameter, definition in mapping(data.get("parameters"), f"{key}.parameters").items():
        if isinstance(definition, str):
            parameters[parameter] = Parameter(parameter, definition)
            continue
        fields = mapping(definition, f"{key}.parameters.{parameter}")
        default = fields.get("default")
        if isinstance(default, (dict, list)):
            raise sdk.StepError(f"{key}.parameters.{parameter}.default: must be a single value")
        parameters[parameter] = Parameter(parameter, str(fields.get("type") or "string"), None if default is None else str(default))
    return EntryPoint(name, command, parameters, key)


def load(text: str, source: str) -> object:
    """The data of a YAML text. Raises StepError with the line and column of a syntax error."""
    try:
        import yaml
    except ImportError:
        raise sdk.StepError("PyYAML, a dependency of MLflow, is not installed here: add mlflow to the codeset's dependencies") from None
    try:
        data: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise sdk.StepError(f"{source}{place}: {error.problem or 'is not valid YAML'}") from None
    except yaml.YAMLError as error:
        raise sdk.StepError(f"{source}: {error}") from None
    return data


def mapping(value: object, key: str) -> dict[str, object]:
    """The value as a mapping; None is an empty one. Raises StepError naming `key`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise sdk.StepError(f"{key}: must be a mapping of keys to values, not {_kind(value)}")
    return {str(name): item for name, item in value.items()}


def _text(data: Mapping[str, object], key: str, parent: str) -> str | None:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    joint = "." if ": " in parent else ": "
    raise sdk.StepError(f"{parent}{joint}{key}: must be text, not {_kind(value)}")


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"'{value}'"
