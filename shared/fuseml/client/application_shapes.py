"""Documents of `/applications`, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import Required, TypedDict


class Resource(TypedDict):
    """A Kubernetes resource that belongs to an application."""

    name: str
    kind: str


class Share(TypedDict):
    """A revision of an application that receives `percent` of the requests, and the model that it serves."""

    revision: int
    percent: int
    model: str | None


class ModelServerResources(TypedDict, total=False):
    """The compute resources of a model server, in Kubernetes quantities."""

    requests: dict[str, str]
    limits: dict[str, str]


class ApplicationSpec(TypedDict, total=False):
    """The part of an application that its owner sets."""

    name: Required[str]
    type: Required[str]
    description: str
    url: str
    workflow: Required[str]
    k8s_namespace: str
    k8s_resources: list[Resource]
    project: str | None
    codeset: str | None
    run: str | None
    preview: str
    model: str | None
    runtime: str | None
    tracking_uri: str | None
    digest: str | None
    served_by: str
    format: str
    model_server: str
    runtime_version: str
    resources: ModelServerResources
    location: str
    options: dict[str, str]
    public: bool | None
    environment: dict[str, str]
    requested: str | None
    follow: bool


class Application(ApplicationSpec, total=False):
    """An application: a service that runs create, such as predictions. `status` is ready, starting or failed. `traffic` is the desired one,
    `answering` the observed one; null if unknown. `behind` is the version that the address `requested` names by now, if the application
    serves another one.
    """

    revision: Required[int]
    traffic: Required[list[Share]]
    answering: list[Share] | None
    behind: str | None
    address_problem: str | None
    status: str | None
    cause: str | None
    created: Required[str]
    updated: Required[str]
