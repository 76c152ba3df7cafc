"""Documents of resolution: the selector and its context as the question; bindings and explanations as the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import constraint, extension, versions

_Name = Annotated[document.Text, pydantic.Field(max_length=100)]
Verdict = Literal["chosen", "eligible", "rejected"]


def _version(text: str) -> str:
    if not text:
        return text
    try:
        return constraint.accept(text)
    except errors.InvalidError as error:
        raise ValueError(error.message) from error


class Selector(document.Model):
    """Criteria for a service; an empty field matches everything.

    `ambiguity: error` refuses a choice by id. By default an unhealthy endpoint loses against every other one; `healthy: true` rejects
    unhealthy endpoints and credentials, `healthy: false` disregards health.
    """

    name: _Name = ""
    extension_id: _Name = ""
    service_id: _Name = ""
    product: _Name = ""
    version: Annotated[document.Text, pydantic.Field(max_length=versions.MAX_LENGTH), pydantic.AfterValidator(_version)] = ""
    zone: _Name = ""
    service_resource: _Name = ""
    service_category: _Name = ""
    ambiguity: Literal["first", "error"] = "first"
    healthy: bool | None = None

    @property
    def otherwise(self) -> Selector | None:
        """The selector that counts where this one matches nothing; None for most.

        Published workflows select the S3 server of MLflow's artifacts. Where MLflow itself serves the artifacts, clients need no other server.
        """
        if (self.product, self.service_resource) != ("mlflow", "s3"):
            return None
        return self.model_copy(update={"service_resource": "mlflow-artifacts"})


TEXTS = ("extension_id", "service_id", "product", "zone", "service_resource", "service_category")
"""The criteria of a selector that are plain text."""


class Context(document.Model):
    """The consumer that selectors are resolved for: its project, its user, and the zone that it runs in."""

    project: document.Text = ""
    user: document.Text = ""
    zone: document.Text = ""


TRAINING = "training"
"""The category of services that run trainings."""


class Binding(document.Model):
    """The service that a selector resolved to. `secret_keys` are the keys of the credentials; `configuration` holds the other keys and values.
    `secret_files` are the keys whose values a step gets as files, with their paths.

    `ambiguous_with` lists the first `resolution.MAX_TIES` services (`extension/service`) that only their id puts behind this one.
    `withheld` says that the service has credentials, and none of them apply to the consumer; it is empty otherwise.
    """

    name: str
    extension_id: str
    service_id: str
    service_resource: str
    service_category: str
    product: str
    version: str
    zone: str
    url: str
    endpoint_type: str
    credentials_id: str = ""
    credentials_scope: str = ""
    configuration: dict[str, str] = {}
    secret_keys: list[str] = []
    secret_files: dict[str, str] = {}
    revision: int = 0
    ambiguous_with: list[str] = []
    withheld: str = ""

    def is_secret(self, key: str) -> bool:
        """Whether a step gets a secret under this key: a value of the credentials, or its own token."""
        return key in self.secret_keys or self.configuration.get(key) == extension.STEP_TOKEN

    @property
    def settings(self) -> dict[str, str]:
        """The variables that are no secrets. Those of the step `trainer` name the tool that trains: its resource chooses the implementation."""
        if self.service_category != TRAINING:
            return self.configuration
        return {"FUSEML_TRAINING": self.service_resource, "FUSEML_TRAINING_URL": self.url, **self.configuration}

    def environment(self) -> dict[str, str]:
        """The variables that the binding adds to the step's environment: secrets as `<hidden>`, paths of files as `<file PATH>`."""
        files = {key: f"<file {path}>" for key, path in self.secret_files.items()}
        return {**self.settings, **dict.fromkeys(self.secret_keys, extension.HIDDEN), **files}


class Candidate(document.Model):
    """An extension, or one of its services, endpoints or credentials, with the verdict and the rule behind it."""

    extension_id: str
    service_id: str = ""
    url: str = ""
    credentials_id: str = ""
    verdict: Verdict
    rule: str
    sentence: str


class Explanation(document.Model):
    """The candidates of one selector: the chosen one, the eligible ones in order, then the rejected ones, endpoints and credentials first.

    `omitted` counts the candidates beyond the limit.
    """

    selector: str
    candidates: list[Candidate]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """The bindings, in the order of the selectors; the names of selectors without one; explanations, of these or, on request, of all."""

    bindings: list[Binding]
    explanations: list[Explanation]
    unresolved: list[str]
