"""The deployed objects: all objects of FuseML's kustomizations, and the services of the functions."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from fuseml.runtime import catalog
from tests import yaml_files

Object = dict[str, Any]

ROOT = pathlib.Path(__file__).parents[2]
DEPLOYED = (*catalog.FUNCTIONS, catalog.GATEWAY)
SERVICES = ROOT / "knative/services"
KUSTOMIZATIONS = sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("[eik]*/**/kustomization.yaml"))


def documents(path: pathlib.Path) -> list[Object]:
    return yaml_files.documents(path)


def manifests() -> Iterator[tuple[str, Object]]:
    """All objects of FuseML's kustomizations, each with its file."""
    for folder in KUSTOMIZATIONS:
        for resource in documents(ROOT / folder / "kustomization.yaml")[0].get("resources", ()):
            path = ROOT / folder / resource
            if path.is_file():
                yield from ((path.relative_to(ROOT).as_posix(), document) for document in documents(path))


MANIFESTS = list(manifests())


def service(function: catalog.Function) -> Object:
    (document,) = documents(SERVICES / f"{function.service}.yaml")
    return document


def container(function: catalog.Function) -> Object:
    first: Object = service(function)["spec"]["template"]["spec"]["containers"][0]
    return first


def each_function(test: Any) -> Any:
    return pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.name)(test)
