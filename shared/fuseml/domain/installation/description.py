"""The description of an installable tool: the original's `description.yaml`, which loads unchanged.

A description is text from outside. Its paths stay below its folder, its addresses are https, and no value can become an option of a program.
Three fields are additions: `detect`, `accounts`, and `release` of a step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.installation import exposure
from fuseml.domain.registry import extension

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SELECTOR = re.compile(r"[A-Za-z0-9][\w./=!,() -]{0,300}")
_PATH = re.compile(r"[\w][\w./+-]{0,255}")
_CHART = re.compile(r"[a-z0-9][\w./-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,100}")
_DATA_KEY = re.compile(r"[\w][\w.-]{0,252}")
_URL = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?(/[\w./~%+@:=-]*)?(\?ref=[\w./-]+)?")
_OCI = re.compile(r"oci://[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?/[\w./-]+")
_HOST_PREFIX = re.compile(r"(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_VERB = re.compile(r"[a-z]{2,30}")


def is_url(place: str) -> bool:
    """Whether a place is an address; else it is a path in the folder of the description."""
    return "://" in place


def _pattern(pattern: re.Pattern[str], rule: str) -> pydantic.AfterValidator:
    def check(value: str) -> str:
        if value and not pattern.fullmatch(value):
            raise ValueError(f"{value[:80]!r} {rule}")
        return value

    return pydantic.AfterValidator(check)


def _check_path(value: str) -> str:
    if value and (not _PATH.fullmatch(value) or ".." in value.split("/")):
        raise ValueError(f"{value[:80]!r} is no path below the folder of the description")
    return value


def _check_place(value: str) -> str:
    if not is_url(value):
        return _check_path(value)
    if not (_URL.fullmatch(value) or _OCI.fullmatch(value)) or ".." in value.split("/"):
        raise ValueError(f"{value[:80]!r} is no https address")
    return value


Namespace = Annotated[document.Text, _pattern(_LABEL, "is no name of a namespace")]
_ObjectName = Annotated[document.Text, _pattern(_OBJECT, "is no name of an object")]
_DataKey = Annotated[document.Text, _pattern(_DATA_KEY, "is no key of a Secret")]
_Place = Annotated[document.Text, pydantic.AfterValidator(_check_place)]
_Identifier = Annotated[document.Text, _pattern(document.IDENTIFIER, "is no identifier")]


class _Part(document.Model):
    """Keys in any capitals, as the original reads them; null is the default."""

    # A value may be a secret.
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    required: ClassVar[tuple[str, ...]] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_any_capitals(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        folded = {str(key).lower().replace("_", ""): value for key, value in data.items() if value is not None}
        return folded if len(folded) == sum(value is not None for value in data.values()) else data

    @pydantic.model_validator(mode="after")
    def _check_required(self) -> _Part:
        for name in self.required:
            if not getattr(self, name):
                raise ValueError(f"{name} is required")
        return self


class Wait(_Part):
    """The objects that must have a condition after a step, within `timeout` seconds. The selector `all` means every object of the kind."""

    kind: Annotated[document.Text, _pattern(_WORD, "is no kind")] = "pod"
    namespace: Namespace = ""
    condition: Annotated[document.Text, _pattern(_WORD, "is no condition")] = "ready"
    selector: Annotated[document.Text, _pattern(_SELECTOR, "is no label selector")] = "all"
    timeout: Annotated[int, pydantic.Field(ge=1, le=3600)] = 300


class Step(_Part):
    """A step of an installation or of its removal. `location`, `values` are places, `release` is the name of the helm release."""

    type: Literal["helm", "manifest", "kustomize", "script"]
    location: _Place = ""
    repo: _Place = ""
    chart: Annotated[document.Text, _pattern(_CHART, "is no name of a chart")] = ""
    values: _Place = ""
    version: Annotated[document.Text, _pattern(_VERSION, "is no version")] = ""
    namespace: Namespace = ""
    release: Annotated[document.Text, _pattern(_LABEL, "is no name of a release")] = ""
    waitfor: Annotated[tuple[Wait, ...], pydantic.Field(max_length=20)] = ()


class Gateway(_Part):
    """An address outside of the cluster, `hostprefix`.DOMAIN, for a service of the tool."""

    name: _ObjectName = ""
    namespace: Namespace = ""
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 80
    hostprefix: Annotated[document.Text, _pattern(_HOST_PREFIX, "is no begin of a host name")] = ""
    servicehost: Annotated[document.Text, _pattern(_OBJECT, "is no host name")] = ""

    required = ("name",)


class RoleRule(_Part):
    """A right of the steps of runs."""

    apigroups: Annotated[tuple[Annotated[document.Text, _pattern(_OBJECT, "is no API group")], ...], pydantic.Field(max_length=20)] = ()
    resources: Annotated[
        tuple[Annotated[document.Text, _pattern(re.compile(r"[a-z][a-z/-]{0,100}"), "is no resource")], ...], pydantic.Field(max_length=50)
    ] = ()
    verbs: Annotated[tuple[Annotated[document.Text, _pattern(_VERB, "is no verb")], ...], pydantic.Field(max_length=20)] = ()

    required = ("apigroups", "resources", "verbs")


class Transform(_Part):
    """One entry of an account: `configvalue` of the credentials is the key `secretvalue` of a Secret."""

    configvalue: _Identifier = ""
    secret: _ObjectName = ""
    namespace: Namespace = ""
    secretvalue: _DataKey = ""

    required = ("configvalue", "secret", "secretvalue")


class AccountOf(_Part):
    """The entries of one set of credentials."""

    id: _Identifier = ""
    transform: Annotated[tuple[Transform, ...], pydantic.Field(max_length=50)] = ()

    required = ("id", "transform")


class ServiceCredentials(_Part):
    """The accounts of one service that the cluster's Secrets hold."""

    serviceid: _Identifier = ""
    credentials: Annotated[tuple[AccountOf, ...], pydantic.Field(max_length=50)] = ()

    required = ("serviceid", "credentials")


class Account(_Part):
    """A Secret that the installer creates before the steps unless it exists: fixed `values`, and keys with generated ones."""

    secret: _ObjectName = ""
    namespace: Namespace = ""
    values: Annotated[dict[_DataKey, Annotated[document.Text, pydantic.Field(max_length=1000)]], pydantic.Field(max_length=20)] = {}
    generate: Annotated[tuple[_DataKey, ...], pydantic.Field(max_length=20)] = ()

    required = ("secret",)


class Description(_Part):
    """A tool and its installation. `namespace` is the default of all parts; `detect` names resource definitions that the tool brings."""

    name: Annotated[document.Text, _pattern(re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?"), "is no name of a tool")] = ""
    product: Annotated[document.Text, pydantic.Field(max_length=100)] = ""
    version: Annotated[document.Text, pydantic.Field(max_length=100)] = ""
    description: Annotated[document.Text, pydantic.Field(max_length=1000)] = ""
    namespace: Namespace = ""
    zone: Annotated[document.Text, pydantic.Field(max_length=100)] = ""
    requires: Annotated[tuple[Annotated[document.Text, _pattern(_LABEL, "is no name of a tool")], ...], pydantic.Field(max_length=20)] = ()
    detect: Annotated[tuple[_ObjectName, ...], pydantic.Field(max_length=20)] = ()
    install: Annotated[tuple[Step, ...], pydantic.Field(max_length=50)] = ()
    uninstall: Annotated[tuple[Step, ...], pydantic.Field(max_length=50)] = ()
    accounts: Annotated[tuple[Account, ...], pydantic.Field(max_length=20)] = ()
    gateways: Annotated[tuple[Gateway, ...], pydantic.Field(max_length=20)] = ()
    services: Annotated[tuple[extension.Service, ...], pydantic.Field(max_length=50)] = ()
    servicecredentials: Annotated[tuple[ServiceCredentials, ...], pydantic.Field(max_length=50)] = ()
    rolerules: Annotated[tuple[RoleRule, ...], pydantic.Field(max_length=50)] = ()

    required = ("name",)

    def release(self, step: Step) -> str:
        """The name of the helm release of a step; in the original always that of the tool."""
        return step.release or self.name

    def namespace_of(self, step: Step) -> str:
        """The namespace of a step; empty: that of the kubeconfig, or those that its objects name."""
        return step.namespace or self.namespace

    def removal(self) -> tuple[Step, ...]:
        """The steps of the removal: the given ones, or those of the installation in reverse, without scripts."""
        return self.uninstall or tuple(step for step in reversed(self.install) if step.type != "script")

    def sources(self) -> list[str]:
        """The addresses from which the steps of the installation are fetched."""
        named = [place for step in self.install for place in (step.repo, step.location, step.values) if is_url(place)]
        return list(dict.fromkeys(named))

    def places(self) -> Iterator[str]:
        """The paths in the folder that the steps name."""
        for step in (*self.install, *self.uninstall):
            yield from (place for place in (step.location, step.values) if place and not is_url(place))


def load(text: str) -> Description:
    """The description in a text. Raises InvalidError that lists every problem with its position."""
    parsed = document.parse(text)
    description = document.validate(Description, parsed.data, position=parsed.position, kind="description")
    problems = list(_problems(description))
    if problems:
        raise errors.InvalidError(f"the description is not valid: {problems[0]}", problems)
    return description


def _problems(description: Description) -> Iterator[errors.Problem]:
    for kind, steps in (("install", description.install), ("uninstall", description.uninstall)):
        for index, step in enumerate(steps):
            yield from (errors.Problem(f"{kind}[{index}].{key}", message) for key, message in _faults(step, kind))
    releases = [description.release(step) for step in description.install if step.type == "helm"]
    for release in sorted({release for release in releases if releases.count(release) > 1}):
        yield errors.Problem("install", f"two helm steps have the release {release!r}; give one of them a `release`")
    for index, service in enumerate(description.services):
        for number, endpoint in enumerate(service.endpoints):
            try:
                exposure.port_of(endpoint.url)
            except ValueError as error:
                yield errors.Problem(f"services[{index}].endpoints[{number}].url", f"is no address ({error})")
    yield from _credential_problems(description)
    if description.name in description.requires:
        yield errors.Problem("requires", "a tool cannot require itself")


def _faults(step: Step, kind: str) -> Iterator[tuple[str, str]]:
    if step.type == "helm":
        if kind == "install" and not step.location and not (step.repo and step.chart):
            yield "chart", "a helm step needs `repo` and `chart`, or the `location` of a chart"
    elif not step.location:
        yield "location", f"a step of type {step.type} needs a `location`"
    elif step.type == "script" and is_url(step.location):
        yield "location", "a script must be in the folder of the description, where it can be read before it is executed"
    if step.type != "helm" and step.location.startswith("oci://"):
        yield "location", "only charts have oci addresses"
    if step.repo and not is_url(step.repo):
        yield "repo", "is the https address of a repository of charts"


def _credential_problems(description: Description) -> Iterator[errors.Problem]:
    credentials = {service.id: [item.id for item in service.credentials] for service in description.services}
    for index, item in enumerate(description.servicecredentials):
        if item.serviceid not in credentials:
            yield errors.Problem(f"servicecredentials[{index}].serviceid", f"there is no service {item.serviceid!r}")
        for account in item.credentials:
            if account.id not in credentials.get(item.serviceid, [account.id]):
                yield errors.Problem(f"servicecredentials[{index}].credentials", f"the service has no credentials {account.id!r}")


def installed_namespaces(description: Description) -> Sequence[str]:
    """The namespaces that the installation needs, each once."""
    named = [description.namespace, *(step.namespace for step in description.install), *(item.namespace for item in description.accounts)]
    return list(dict.fromkeys(name for name in named if name))
