"""Jobs, TrainJobs and Secrets as an API server checks them: by the published schema of Kubeflow Trainer, and by the types of Kubernetes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml

from tests import crds
from tests.contract.test_tekton_manifests import closed


@functools.cache
def trainjob_schema() -> dict[str, Any]:
    """The schema of a TrainJob, without unknown fields."""
    document = yaml.load(crds.at("kubeflow-trainer/trainjobs.yaml").read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return closed(schema)


def faults(kind: str, body: dict[str, Any]) -> Iterator[str]:
    """What the API server refuses in the object."""
    if kind == "trainjobs":
        for error in jsonschema.Draft7Validator(trainjob_schema()).iter_errors(body):
            yield f"{error.json_path}: {error.message}"
        if len(body["spec"]["trainer"]["env"]) > 128:
            yield "spec.trainer.env: must have at most 128 items"
    elif kind == "jobs":
        yield from unknown_fields(body, "V1Job", "")
    else:
        yield from unknown_fields(body, "V1Secret", "")
    names = body["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", names) or len(names) > 63:
        yield f"metadata.name: {names!r} is no label"


def unknown_fields(value: Any, type_name: str, path: str) -> Iterator[str]:
    """The fields of a value that the type of Kubernetes does not have."""
    from kubernetes.client import models

    if type_name.startswith("list["):
        for index, item in enumerate(value):
            yield from unknown_fields(item, type_name[5:-1], f"{path}[{index}]")
    elif type_name.startswith("V1"):
        model = getattr(models, type_name)
        types = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
        for name, item in value.items():
            if name not in types:
                yield f"{path}.{name}: unknown field"
            else:
                yield from unknown_fields(item, types[name], f"{path}.{name}")
