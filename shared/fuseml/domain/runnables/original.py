"""The original API's document of a runnable, which has one version, parameters and artifacts by name, and one container.

Clients of the original API write and read it. It is read into a descriptor, and a descriptor is shown in its fields.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.runnables import descriptor
from fuseml.domain.runnables.descriptor import Line, Prose, Runnable, Word

VERSION = "1.0.0"
"""The version of a runnable that the original API registers: the original has none, and never changes one."""

_TYPES = ("codeset", "model", "dataset", "runnable")
_TEXTS = ("image", "command", "args", "script", "env")
_Kind = Literal["custom", "builder", "trainer", "predictor"]


class Container(document.Model):
    image: document.Text
    entrypoint: document.Text = ""
    env: dict[str, document.Text] = {}
    args: list[document.Text] = []


class Parameter(document.Model):
    description: Prose = ""
    optional: bool = False
    defaultValue: document.Text = ""  # noqa: N815 (the original's name)
    path: document.Text = ""
    labels: dict[str, document.Text] = {}


class Artifact(document.Model):
    """`kind` has one key, the type of the artifact, with criteria that the original never evaluated."""

    description: Prose = ""
    optional: bool = False
    provider: list[Word] = ["local"]
    kind: dict[Literal["codeset", "model", "dataset", "runnable"], Any]
    path: document.Text = ""
    dimension: Literal["single", "array"] = "single"
    labels: dict[str, document.Text] = {}


class Port(document.Model):
    """Inputs or outputs by name."""

    parameters: Annotated[dict[str, Parameter], pydantic.Field(max_length=descriptor.MOST_INPUTS)] = {}
    artifacts: Annotated[dict[str, Artifact], pydantic.Field(max_length=descriptor.MOST_INPUTS)] = {}


class Original(document.Model):
    """The original API's document."""

    id: document.Text
    created: document.Text = ""
    kind: _Kind = "custom"
    description: Prose = ""
    author: Line = ""
    source: Prose = ""
    container: Container
    input: Port = Port()
    output: Port = Port()
    defaultInputPath: document.Text = ""  # noqa: N815
    defaultOutputPath: document.Text = ""  # noqa: N815
    labels: dict[Word, document.Text] = {}


def is_original(data: object) -> bool:
    """Whether the data of a document has the fields of the original."""
    return isinstance(data, Mapping) and ("id" in data or "container" in data)


def read(parsed: document.Parsed) -> tuple[Original, Runnable]:
    """The document and its descriptor. Raises InvalidError."""
    original = document.validate(Original, parsed.data, position=parsed.position, kind="runnable")
    try:
        command = shlex.split(original.container.entrypoint)
    except ValueError as error:
        raise errors.InvalidError(f"container.entrypoint: {error}") from None
    data: dict[str, Any] = {
        "name": original.id,
        "version": VERSION,
        **original.model_dump(include={"kind", "description", "author", "source", "labels"}),
        "image": original.container.image,
        "command": command,
        "args": original.container.args,
        "env": [{"name": name, "value": value} for name, value in original.container.env.items()],
        "inputs": [*(_parameter(name, item) for name, item in original.input.parameters.items()), *_artifacts(original.input)],
        "outputs": [
            *(
                {"name": _name(name), "description": item.description, "optional": item.optional}
                for name, item in original.output.parameters.items()
            ),
            *_artifacts(original.output),
        ],
    }
    runnable = document.validate(Runnable, data, kind="runnable")
    # The texts may hold expressions that only the original describes. They matter when a step runs them.
    found = [item for item in descriptor.problems(runnable) if item[0][0] not in _TEXTS or not runnable.image.strip()]
    if found:
        raise errors.InvalidError(
            f"the runnable is not valid: {found[0][1]}", [errors.Problem(document.render_path(path), message) for path, message in found]
        )
    return original, runnable


def _name(name: str) -> str:
    """The name of an input or output, which the original leaves open."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:100]


def _parameter(name: str, item: Parameter) -> dict[str, Any]:
    default = {"default": item.defaultValue} if item.defaultValue else {}
    return {"name": _name(name), "description": item.description, "optional": item.optional, **default}


def _artifacts(port: Port) -> list[dict[str, Any]]:
    return [
        {
            "name": _name(name),
            "description": item.description,
            "optional": item.optional,
            "type": next((key for key in _TYPES if key in item.kind), "string"),
        }
        for name, item in port.artifacts.items()
    ]


def kind_of(runnable: Runnable) -> descriptor.Kind:
    """The kind of a runnable, `custom` for one that the original does not know."""
    return runnable.kind if runnable.kind in get_args(_Kind) else "custom"


def render(runnable: Runnable) -> dict[str, Any]:
    """The fields of the original for a descriptor."""
    return {
        "container": {
            "image": runnable.image,
            "entrypoint": shlex.join(runnable.command),
            "env": {item.name: item.value for item in runnable.env},
            "args": list(runnable.args),
        },
        "input": {
            "parameters": {
                item.name: {"description": item.description, "optional": not item.needs_value, "defaultValue": item.default or ""}
                for item in runnable.inputs
                if not item.is_artifact
            },
            "artifacts": {
                item.name: {"description": item.description, "optional": item.optional, "kind": {item.type: {}}}
                for item in runnable.inputs
                if item.is_artifact
            },
        },
        "output": {
            "parameters": {
                item.name: {"description": item.description, "optional": item.optional}
                for item in runnable.outputs
                if item.type not in descriptor.ARTIFACTS
            },
            "artifacts": {
                item.name: {"description": item.description, "optional": item.optional, "kind": {item.type: {}}}
                for item in runnable.outputs
                if item.type in descriptor.ARTIFACTS
            },
        },
    }
