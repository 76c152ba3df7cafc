"""The record of an installed tool: its description with the addresses and accounts that the cluster has."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseml.domain import errors
from fuseml.domain.installation import description, exposure
from fuseml.domain.installation.description import Description
from fuseml.domain.registry import extension

Object = Mapping[str, Any]
Name = tuple[str, str]
"""Namespace and name of an object."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The objects of the cluster: services, their addresses outside, and the values of Secrets in plain text."""

    services: Mapping[Name, Object] = field(default_factory=dict)
    exposures: Sequence[exposure.Exposure] = ()
    secrets: Mapping[Name, Mapping[str, str]] = field(default_factory=dict, repr=False)


def secrets(owner: Description) -> Sequence[Name]:
    """The Secrets that hold the accounts of the tool."""
    named = [
        (item.namespace or owner.namespace, item.secret)
        for service in owner.servicecredentials
        for account in service.credentials
        for item in account.transform
    ]
    return list(dict.fromkeys(named))


def internal_services(owner: Description) -> Sequence[Name]:
    """The services of the cluster that the internal endpoints name."""
    names = [_backing(owner, endpoint) for service in owner.services for endpoint in service.endpoints]
    return list(dict.fromkeys(name for name in names if name))


def record(owner: Description, zone: str, facts: Facts) -> extension.Extension:
    """The record of the tool in a zone. Its id is the tool's name.

    Raises PermanentError with every service, port, Secret and key that the description names and the cluster lacks.
    """
    problems = [*_missing_services(owner, facts), *_missing_keys(owner, facts)]
    if problems:
        raise errors.PermanentError(
            f"{owner.name} cannot be registered: {'; '.join(problems)}; correct the description, or wait until the tool has started and "
            "repeat the command"
        )
    return extension.Extension(
        id=owner.name,
        product=owner.product or owner.name,
        version=owner.version,
        description=owner.description.strip(),
        zone=zone or owner.zone,
        services=tuple(_service(owner, service, facts) for service in owner.services),
    )


def _service(owner: Description, service: extension.Service, facts: Facts) -> extension.Service:
    known = {endpoint.url for endpoint in service.endpoints}
    outside = [found for endpoint in service.endpoints for found in _outside(owner, endpoint, facts) if found.url not in known]
    unique = {endpoint.url: endpoint for endpoint in outside}
    accounts = {
        account.id: {
            item.configvalue: facts.secrets[item.namespace or owner.namespace, item.secret][item.secretvalue] for item in account.transform
        }
        for entry in owner.servicecredentials
        if entry.serviceid == service.id
        for account in entry.credentials
    }
    credentials = tuple(
        item.model_copy(update={"configuration": {**item.configuration, **accounts.get(item.id, {})}}) for item in service.credentials
    )
    return service.model_copy(update={"endpoints": (*service.endpoints, *unique.values()), "credentials": credentials})


def _outside(owner: Description, endpoint: extension.Endpoint, facts: Facts) -> Iterator[extension.Endpoint]:
    """The endpoint at each address that the service behind it has outside; its configuration names that address, too."""
    backing = _backing(owner, endpoint)
    if endpoint.type != "internal" or backing is None:
        return
    path, port = urllib.parse.urlsplit(endpoint.url).path, exposure.port_of(endpoint.url)
    for found in facts.exposures:
        if (found.namespace, found.service) == backing and found.port in (None, port):
            url = found.url + path.rstrip("/")
            configuration = {key: value.replace(endpoint.url, url) for key, value in endpoint.configuration.items()}
            yield extension.Endpoint(url=url, type="external", configuration=configuration)


def _backing(owner: Description, endpoint: extension.Endpoint) -> Name | None:
    return exposure.service_of(endpoint.url, description.installed_namespaces(owner)) if endpoint.type == "internal" else None


def _missing_services(owner: Description, facts: Facts) -> Iterator[str]:
    for service in owner.services:
        for endpoint in service.endpoints:
            backing = _backing(owner, endpoint)
            if backing is None or backing == ("default", "kubernetes"):
                continue
            if backing not in facts.services:
                yield f"there is no service {backing[1]} in the namespace {backing[0]}"
                continue
            port = exposure.port_of(endpoint.url)
            ports = [entry.get("port") for entry in (facts.services[backing].get("spec") or {}).get("ports") or ()]
            if port not in ports:
                yield f"the service {backing[1]} in the namespace {backing[0]} has no port {port}"


def _missing_keys(owner: Description, facts: Facts) -> Iterator[str]:
    for entry in owner.servicecredentials:
        for account in entry.credentials:
            for item in account.transform:
                name = (item.namespace or owner.namespace, item.secret)
                if name not in facts.secrets:
                    yield f"there is no Secret {name[1]} in the namespace {name[0]}"
                elif item.secretvalue not in facts.secrets[name]:
                    yield f"the Secret {name[1]} in the namespace {name[0]} has no key {item.secretvalue}"
