"""Steps of the images that the original FuseML published: the built-in steps take their place, so that its workflows run unchanged.

The steps keep their names, places, inputs and outputs; a predictor also gets the model server that its image held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuseml.domain import model_servers
from fuseml.domain.documents import document
from fuseml.domain.workflows import deployment
from fuseml.domain.workflows.models import ExtensionRequirement, Step, StepInput, Workflow

PREDICTOR = "ghcr.io/fuseml/predictor:v1"
"""The image of the built-in predictor."""

SERVER = "predictor"
"""The input of a predictor that names the model server."""

_REGISTRY = "ghcr.io/fuseml/"
# Tags of the original; the built-in steps of FuseML have v1 and later ones.
_TAG = re.compile(r"latest|dev|v?0\.[0-9.]+")


@dataclass(frozen=True, slots=True)
class _Image:
    """The built-in image that takes the place, and the values of the inputs that the step does not give."""

    image: str
    inputs: Mapping[str, str]


_IMAGES: Mapping[str, _Image] = {
    "mlflow-builder": _Image("ghcr.io/fuseml/mlflow-builder:v1", {}),
    "kserve-predictor": _Image(PREDICTOR, {}),
    "kfserving-predictor": _Image(PREDICTOR, {}),
    "seldon-core-predictor": _Image(PREDICTOR, {}),
    "ovms-predictor": _Image(PREDICTOR, {SERVER: "openvino"}),
}
_RENAMED = {"kfserving-api": "kserve-api"}
"""Resources of services whose product has another name by now."""

_ANY_SERVING = ExtensionRequirement(name="fuseml.serving", service_category=deployment.CATEGORY)
"""The selector of a predictor without one: the original's oldest predictors found their tool on the cluster by themselves."""

_WITHOUT: Mapping[str, str] = {
    "ovms-converter": "FuseML has no built-in step for it, and OpenVINO Model Server reads ONNX and TensorFlow's SavedModel itself: remove the "
    "step, and give the predictor the output of the trainer",
}
_NO_EFFECT = frozenset(
    {"batch_size", "shape", "nireq", "plugin_config", "target_device", "layout", "prediction_type", "model_name", "loglevel"}
)
"""Inputs of the original's `ovms-predictor` that tune its operator."""


def replaced(workflow: Workflow) -> Workflow:
    """The workflow with the built-in steps. Places of steps and of their inputs stay, so that problems keep their positions."""
    if not any(_name(step.image) in _IMAGES for step in workflow.steps):
        return workflow
    return workflow.model_copy(update={"steps": [_replaced(step) for step in workflow.steps]})


def notes(workflow: Workflow) -> Iterator[tuple[document.Path, str]]:
    """The replaced images, and the inputs that have no effect."""
    for index, step in enumerate(workflow.steps):
        name = _name(step.image)
        if name not in _IMAGES:
            continue
        yield ("steps", index, "image"), f"the built-in step {_IMAGES[name].image} takes the place of the original FuseML's {step.image}"
        if name == "ovms-predictor":
            for position, item in enumerate(step.inputs):
                if item.name.replace("-", "_") in _NO_EFFECT:
                    yield (
                        ("steps", index, "inputs", position, "name"),
                        f"the input {item.name!r} has no effect; the serving has settings of its own",
                    )


def warnings(workflow: Workflow) -> Iterator[tuple[document.Path, str]]:
    """The images without a built-in step."""
    for index, step in enumerate(workflow.steps):
        reason = _WITHOUT.get(_name(step.image))
        if reason:
            yield ("steps", index, "image"), f"{step.image} runs as it was published, where a container runtime can pull it; {reason}"


def advice(image: str) -> str:
    """The way out for an image of the original that no built-in step replaces; empty for any other one."""
    return _WITHOUT.get(_name(image), "")


def _name(image: str) -> str:
    """The name of the original's image; empty for any other one."""
    name, _, tag = image.removeprefix(_REGISTRY).partition(":")
    is_original = image.startswith(_REGISTRY) and (name in _IMAGES or name in _WITHOUT)
    return name if is_original and (not tag or _TAG.fullmatch(tag)) else ""


def _replaced(step: Step) -> Step:
    found = _IMAGES.get(_name(step.image))
    if found is None:
        return step
    given = {item.name.replace("_", "-") for item in step.inputs if item.value}
    added = [StepInput(name=name, value=value) for name, value in found.inputs.items() if name not in given]
    tuned = frozenset({"batch_size", "batch-size"}) if found.inputs else frozenset[str]()
    # `auto`, of the original's OpenVINO, is no number of rows.
    inputs = [item.model_copy(update={"value": ""}) if item.name in tuned else item for item in step.inputs]
    extensions: Sequence[ExtensionRequirement] = [
        item.model_copy(update={"service_resource": _RENAMED.get(item.service_resource, item.service_resource)}) for item in step.extensions
    ]
    if found.image == PREDICTOR and not any(map(_selects_serving, extensions)):
        extensions = [*extensions, _ANY_SERVING]
    return step.model_copy(update={"image": found.image, "inputs": [*inputs, *added], "extensions": extensions})


def _selects_serving(requirement: ExtensionRequirement) -> bool:
    return requirement.service_category == deployment.CATEGORY or requirement.service_resource in (*model_servers.OFFERED, "ovms-operator")
