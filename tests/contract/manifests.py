"""What is deployed: every object that a kustomization of ours names, and the services of the functions."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fuseml.runtime import catalog

Object = dict[str, Any]

ROOT = pathlib.Path(__file__).parents[2]
DEPLOYED = (*catalog.FUNCTIONS, catalog.GATEWAY)
SERVICES = ROOT / "knative/services"
KUSTOMIZATIONS = sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("[eik]*/**/kustomization.yaml"))


def documents(path: pathlib.Path) -> list[Object]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifests() -> Iterator[tuple[str, Object]]:
    """Every object that a kustomization of ours names, with the file that it is in."""
    for folder in KUSTOMIZATIONS:
        for resource in documents(ROOT / folder / "kustomization.yaml")[0].get("resources", ()):
            path = ROOT / folder / resource
            if path.is_file():
                yield from ((path.relative_to(ROOT).as_posix(), document) for document in documents(path))


MANIFESTS = list(manifests())


def service(function: catalog.Function) -> Object:
    (found,) = documents(SERVICES / f"{function.service}.yaml")
    return found


def container(function: catalog.Function) -> Object:
    found: Object = service(function)["spec"]["template"]["spec"]["containers"][0]
    return found


def each_function(test: Any) -> Any:
    return pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.name)(test)
