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
    """What a step asks for; an empty field asks for nothing.

    `ambiguity: error` refuses a choice that only the id would decide; `healthy` leaves out what was found unhealthy.
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
    healthy: bool = False


class Context(document.Model):
    """On whose behalf, and from where, a selector is resolved. `zone` is where the consumer runs."""

    project: document.Text = ""
    user: document.Text = ""
    zone: document.Text = ""


class Binding(document.Model):
    """What a selector resolved to. `secret_keys` are the keys of the credentials; `configuration` holds the other keys with their values.

    `ambiguous_with` lists the services (`extension/service`) that only the id put behind this one, the first `resolution.MAX_TIES` of them.
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
    revision: int = 0
    ambiguous_with: list[str] = []

    def environment(self) -> dict[str, str]:
        """What the step's environment gets from it, secrets as `<hidden>`."""
        return {**self.configuration, **dict.fromkeys(self.secret_keys, extension.HIDDEN)}


class Candidate(document.Model):
    """An extension, or a service, endpoint or set of credentials of it, and why it was kept or dropped."""

    extension_id: str
    service_id: str = ""
    url: str = ""
    credentials_id: str = ""
    verdict: Verdict
    rule: str
    sentence: str


class Explanation(document.Model):
    """The candidates of one selector: the chosen one, the eligible ones in order, the rejected ones, those that came furthest first.

    `omitted` counts those beyond the limit.
    """

    selector: str
    candidates: list[Candidate]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """Bindings in the order of their selectors, without those of `unresolved`; explanations where they were asked for or are needed."""

    bindings: list[Binding]
    explanations: list[Explanation]
    unresolved: list[str]
