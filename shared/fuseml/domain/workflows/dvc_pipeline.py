"""A pipeline of DVC as a workflow: each stage of a `dvc.yaml` becomes a step that brings it up to date, in the order of the stages.

The steps share the checkout of their run, so that a stage finds what earlier ones have written. They run one after the other: DVC locks the
checkout. Pure: texts in, a document out.
"""

from __future__ import annotations

import graphlib
import posixpath
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fuseml.domain import errors
from fuseml.domain.documents import document

FILE = "dvc.yaml"
MOST_STAGES = 100

STORES: Mapping[str, str] = {"s3": "s3", "gs": "gcs", "azure": "azure-blob"}
"""Scheme of a remote of DVC -> the resource of the service that has its account."""

_BUILDER = "ghcr.io/fuseml/mlflow-builder:v1"
_REMOTE = "data-remote"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The facts about the codeset: the paths beside the `dvc.yaml` that `.dvc` files track, the URL of the default remote, the folder of the
    `dvc.yaml` in the codeset, and whether there is a `params.yaml`.
    """

    tracked: Collection[str] = ()
    remote: str = ""
    folder: str = ""
    has_parameters: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, or a group of stages that `foreach` or `matrix` makes of one: its dependencies and outputs, as they are written."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def stages(text: str) -> list[Stage]:
    """The stages of a `dvc.yaml`, each after those whose outputs it reads. Raises InvalidError with the place of a fault."""
    data = document.parse(text).data
    declared = data.get("stages") if isinstance(data, dict) else None
    if not isinstance(declared, dict) or not declared:
        raise errors.InvalidError(f"{FILE}: stages: is missing or no mapping; a pipeline of DVC has at least one stage")
    if len(declared) > MOST_STAGES:
        raise errors.InvalidError(f"{FILE}: stages: there are {len(declared)} stages; a workflow is made of at most {MOST_STAGES}")
    found = {str(name): _stage(str(name), value) for name, value in declared.items()}
    after = {name: [other.name for other in found.values() if other.name != name and _feeds(other, stage)] for name, stage in found.items()}
    try:
        return [found[name] for name in graphlib.TopologicalSorter(after).static_order()]
    except graphlib.CycleError as error:
        raise errors.InvalidError(f"{FILE}: the stages {' -> '.join(error.args[1])} form a cycle") from None


def workflow(name: str, text: str, around: Surroundings, model: str = "") -> dict[str, Any]:
    """The document of a workflow `name` of the stages. The stage `model` logs the model and gives it as an output.

    Raises InvalidError for a `dvc.yaml` that has a fault, and for a `model` that is no stage.
    """
    ordered = stages(text)
    if model and model not in [stage.name for stage in ordered]:
        raise errors.InvalidError(f"{FILE} has no stage {model[:100]!r}; its stages are {', '.join(stage.name for stage in ordered)}")
    made = [output for stage in ordered for output in stage.outputs]
    pulled = {stage.name: _pulled(stage, made, around.tracked) for stage in ordered}
    every = list(dict.fromkeys(path for paths in pulled.values() for path in paths))
    names = _step_names([stage.name for stage in ordered])
    codeset: dict[str, Any] = {"name": "{{ inputs.code }}", "path": "/project", **({"folder": around.folder} if around.folder else {})}
    inputs: list[dict[str, Any]] = [{"name": "code", "description": "the repository with the pipeline of DVC", "type": "codeset"}]
    if around.has_parameters:
        inputs.append({"name": "parameters", "description": "keys of params.yaml, such as train.alpha", "type": "parameters"})
    builder = {
        "name": names[""],
        "image": _BUILDER,
        "inputs": [{"name": "code", "codeset": codeset}, {"name": "entrypoint", "value": FILE}, *_data(every)],
        "outputs": [{"name": "image"}],
    }
    steps: list[dict[str, Any]] = [builder]
    for stage in ordered:
        given: list[dict[str, Any]] = [{"name": "code", "codeset": codeset}, {"name": "entrypoint", "value": f"{FILE}:{stage.name}"}]
        given += [{"name": "parameters", "value": "{{ inputs.parameters }}"}] if around.has_parameters else []
        given += _data(pulled[stage.name])
        given += [] if stage.name == model else [{"name": "model", "value": "none"}]
        step: dict[str, Any] = {"name": names[stage.name], "image": f"{{{{ steps.{names['']}.outputs.image }}}}", "inputs": given}
        if stage.name == model:
            step["outputs"] = [{"name": "model"}, {"name": "metrics"}]
        step["extensions"] = list(_extensions(around.remote if pulled[stage.name] else ""))
        step["needs"] = [steps[-1]["name"]]
        steps.append(step)
    outputs = [{"name": "model", "description": "the model that the pipeline has trained", "type": "string"}] if model else []
    return {"name": name, "description": f"The stages of {FILE}, one step each.", "inputs": inputs, "outputs": outputs, "steps": steps}


def _extensions(remote: str) -> Iterator[dict[str, str]]:
    yield {"name": "mlflow-tracking", "product": "mlflow", "service_resource": "mlflow-tracking"}
    yield {"name": "model-store", "product": "mlflow", "service_category": "model-store"}
    if resource := STORES.get(remote.partition("://")[0]):
        yield {"name": _REMOTE, "service_resource": resource}


def _data(paths: list[str]) -> list[dict[str, str]]:
    return [{"name": "data", "value": shlex.join(paths)}] if paths else []


def _pulled(stage: Stage, made: Collection[str], tracked: Collection[str]) -> list[str]:
    """The data that a stage reads and no stage makes: exactly what it needs of the remote."""
    wanted = (path for path in sorted(tracked) if any(_overlap(path, read) for read in stage.inputs))
    return [path for path in wanted if not any(_overlap(path, output) for output in made)]


def _feeds(one: Stage, other: Stage) -> bool:
    return any(_overlap(output, read) for output in one.outputs for read in other.inputs)


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are one, or one is within the other. `.` holds all of them."""
    first, second = ("" if path == "." else f"{path}/" for path in (one, other))
    return first.startswith(second) or second.startswith(first)


def _stage(name: str, value: object) -> Stage:
    place = f"{FILE}: stages.{name}"
    stage = _mapping(value, place)
    if "do" in stage:
        stage = _mapping(stage["do"], f"{place}.do")
    if not stage.get("cmd"):
        raise errors.InvalidError(f"{place}: has no cmd")
    folder = stage.get("wdir") or ""
    if not isinstance(folder, str):
        raise errors.InvalidError(f"{place}.wdir: is no text")
    listed = {field: tuple(_paths(stage.get(field), f"{place}.{field}", folder)) for field in ("deps", "outs", "metrics", "plots")}
    return Stage(name, listed["deps"], (*listed["outs"], *listed["metrics"], *listed["plots"]))


def _paths(listed: object, place: str, folder: str) -> Iterator[str]:
    """The paths of a list, of which each item is a path, or a mapping of one to its options."""
    if listed is None:
        return
    if not isinstance(listed, list):
        raise errors.InvalidError(f"{place}: is no list")
    for item in listed:
        path = next(iter(item), None) if isinstance(item, dict) and len(item) == 1 else item
        if not isinstance(path, str) or not path:
            raise errors.InvalidError(f"{place}: an item is neither a path nor a path with options")
        if "://" not in path:
            yield posixpath.normpath(posixpath.join(folder, path))


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.InvalidError(f"{place}: is no mapping")
    return value


def _step_names(stages: list[str]) -> dict[str, str]:
    """Stage -> the name of its step; that of the builder is under the empty name."""
    found: dict[str, str] = {}
    for stage, wanted in (*((stage, re.sub(r"[^A-Za-z0-9-]+", "-", stage).strip("-") or "stage") for stage in stages), ("", "builder")):
        taken, number, name = set(found.values()), 2, wanted
        while name in taken:
            name, number = f"{wanted}-{number}", number + 1
        found[stage] = name
    return found
