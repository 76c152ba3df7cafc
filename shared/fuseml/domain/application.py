"""Applications: the served products of runs, usually prediction services. The fields are those of the original API, and those of serving.

An application keeps its newest revisions; its traffic names the served ones: one, or several with their share of the requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import pydantic

from fuseml.domain import artifact, errors, model_address, model_servers
from fuseml.domain.documents import document
from fuseml.domain.workflows import resources

DESCRIPTION = 1000
"""The most characters of a description."""

# A name is part of an address and of the names of objects on a cluster.
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, pydantic.StringConstraints(pattern=_NAME)]
Option = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z]([a-z-]{0,48}[a-z])?$")]
Variable = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")]

BUILT_IN = model_servers.FUSEML
"""The resource of FuseML's own service of the category `prediction-serving`."""

Traffic = Mapping[int, int]
"""Revision -> percent of the requests; 100 in all."""


class Resource(document.Model):
    """An object on a cluster that belongs to the application."""

    name: str
    kind: str


class Resources(document.Model):
    """Compute resources of a model server in Kubernetes quantities, as those of a step."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Resources:
        for (kind, resource), message in resources.faults(self.requests, self.limits):
            raise ValueError(f"{kind}.{resource}: {message}")
        return self


class Application(document.Model):
    """`model` is the model's address on the tracking server, `runtime` the image (environment) that can load it. An application without a
    model is only recorded: another product serves it. `digest` is that of the model's files when it was registered; model servers load no
    others. `served_by` is the resource of the service to which the step's selector for `prediction-serving` resolved. A `public`
    application answers every caller that reaches its address; any other one is reachable inside the cluster only, and on the embedded server
    with a token. Without a value it stays as it is, first not public. `environment` holds variables of the model server, such as
    credentials of the tracking server; it is sealed at rest. `preview` is the name of the ref whose preview it is
    (`domain.workflows.deployment`); empty for an application of a deployed ref. `format` is that of the model's files. `model_server` is the
    program that serves it, of the version `runtime_version`; empty: the first one of the serving that reads the format
    (`domain.model_servers`), and its usual version. `location` is the place of the files, `s3://BUCKET/KEY`, for servings that fetch them.
    `options` are those of the record of the serving, such as the mode of KServe.
    """

    name: Name
    type: Annotated[str, pydantic.StringConstraints(max_length=100)]
    description: Annotated[str, pydantic.StringConstraints(max_length=DESCRIPTION)] = ""
    url: Annotated[str, pydantic.StringConstraints(max_length=1000)] = ""
    workflow: str
    k8s_namespace: str = ""
    k8s_resources: list[Resource] = []
    project: str | None = None
    codeset: str | None = None
    run: str | None = None
    preview: Annotated[str, pydantic.StringConstraints(max_length=100)] = ""
    model: str | None = None
    runtime: str | None = None
    tracking_uri: str | None = None
    digest: Annotated[str, pydantic.StringConstraints(pattern=f"^{artifact.DIGEST}$")] | None = None
    served_by: str = BUILT_IN
    format: model_servers.Format = "mlflow"
    model_server: Annotated[str, pydantic.StringConstraints(max_length=100)] = ""
    runtime_version: Annotated[str, pydantic.StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")] = ""
    resources: Resources = Resources()
    location: Annotated[str, pydantic.StringConstraints(max_length=1000)] = ""
    options: dict[Option, Annotated[str, pydantic.StringConstraints(max_length=300)]] = pydantic.Field({}, max_length=20)
    public: bool | None = None
    environment: dict[Variable, str] = pydantic.Field({}, repr=False, max_length=50)

    @pydantic.field_validator("environment")
    @classmethod
    def _not_reserved(cls, value: dict[str, str]) -> dict[str, str]:
        # Knative sets these, and refuses a Service that sets them.
        reserved = sorted(name for name in value if name == "PORT" or name.startswith("K_"))
        if reserved:
            raise ValueError(f"{', '.join(reserved)}: these names are reserved by Knative")
        return value

    def served(self, offered: Collection[model_servers.Server]) -> model_servers.Choice:
        """The model server of the application, where its serving runs the `offered` ones. Raises InvalidError for none."""
        return model_servers.choose(self.format, self.model_server, served_by=self.served_by, offered=offered)


class Registration(Application):
    """What a client sends. `requested` is the address from which it resolved `model`, an exact one: an alias, a stage, `latest`, or a run. A
    `model` that can move itself is resolved by the sweep. With `follow` the application gets a new revision when the address moves.
    """

    requested: Annotated[str, pydantic.StringConstraints(max_length=1000)] | None = None
    follow: bool = False

    @pydantic.model_validator(mode="after")
    def _can_move(self) -> Registration:
        if self.requested not in (None, self.model) and not model_address.is_exact(self.model or ""):
            raise ValueError(f"model: {self.model!r} is not the address of a version, to which {self.requested!r} was resolved")
        if self.follow and not self.moving:
            address = self.requested or self.model
            raise ValueError(f"follow: {address!r} cannot move; use an alias (models:/name@alias), models:/name/latest, or a stage")
        return self

    @property
    def moving(self) -> str | None:
        """The address of the model that can move; None for an exact one, and for one that no tracking server resolves."""
        address = self.requested or self.model or ""
        return address if model_address.moving(address) else None


NOT_STORED = frozenset({"requested", "follow"})
"""The fields of a registration that the document of an application does not have: they are in a table of their own."""


def is_name(text: str) -> bool:
    """Whether the text may be the name of an application."""
    return re.fullmatch(_NAME, text) is not None and not text.endswith("\n")


def shares(requested: Mapping[str, int], servable: Sequence[int]) -> dict[int, int]:
    """The requested traffic by revision number. `requested` names revisions by number, or as `current` (the newest) and `previous`.

    `servable` are the revisions that can be served, in ascending order. Revisions without a share are left out. Raises InvalidError.
    """
    names = dict(zip(("current", "previous"), reversed(servable), strict=False)) | {str(number): number for number in servable}
    problems = [
        errors.Problem(f"traffic.{name}", f"no such revision; there are {', '.join(names)}") for name in requested if name not in names
    ]
    problems += [
        errors.Problem(f"traffic.{name}", "a share is 0 to 100 percent") for name, percent in requested.items() if not 0 <= percent <= 100
    ]
    if sum(requested.values()) != 100:
        problems.append(errors.Problem("traffic", f"the shares add up to {sum(requested.values())}, not 100"))
    if problems:
        raise errors.InvalidError(f"the traffic is not valid: {problems[0]}", problems)
    traffic: dict[int, int] = {}
    for name, percent in requested.items():
        if percent:
            traffic[names[name]] = traffic.get(names[name], 0) + percent
    return traffic


def rolled_back(traffic: Traffic, servable: Sequence[int]) -> dict[int, int]:
    """All requests to the newest revision before the served ones. Raises ConflictError when there is none."""
    former = [number for number in servable if number < min(traffic)] if len(traffic) == 1 else sorted(traffic)[:-1]
    if not former:
        raise errors.ConflictError(f"there is no revision before {min(traffic)} to roll back to")
    return {former[-1]: 100}
