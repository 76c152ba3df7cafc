"""Applications: served things that a run produced, usually prediction services. Fields of the original API, and what serving needs."""

from __future__ import annotations

from typing import Annotated

import pydantic

from fuseml.domain import document

# A name becomes a part of an address and of objects on a cluster.
Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Resource(document.Model):
    """An object on a cluster that belongs to the application."""

    name: str
    kind: str


class Application(document.Model):
    """`model` is the address that the tracking server gives the model, `runtime` the image (environment) that can load it."""

    name: Name
    type: Annotated[str, pydantic.StringConstraints(max_length=100)]
    description: Annotated[str, pydantic.StringConstraints(max_length=1000)] = ""
    url: Annotated[str, pydantic.StringConstraints(max_length=1000)]
    workflow: str
    k8s_namespace: str = ""
    k8s_resources: list[Resource] = []
    project: str | None = None
    codeset: str | None = None
    run: str | None = None
    model: str | None = None
    runtime: str | None = None
    tracking_uri: str | None = None
