"""Addresses of a cluster's services: inside of it, and outside by load balancers, ingresses and routes."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
_SECURE_PORTS = (443, 8443)
_ADDRESS_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Exposure:
    """An address outside of the cluster that leads to a port of a service; None: to any of its ports."""

    namespace: str
    service: str
    url: str
    port: int | None = None


def internal(namespace: str, service: str, port: int, *, secure: bool = False) -> str:
    """The address of a service for the pods of its cluster."""
    scheme = "https" if secure else "http"
    default = 443 if secure else 80
    return f"{scheme}://{service}.{namespace}.svc.cluster.local{'' if port == default else f':{port}'}"


def service_of(url: str, namespaces: Iterable[str]) -> tuple[str, str] | None:
    """Namespace and name of the service that a cluster's internal address names; None for any other address, and for text that is none.

    `NAME.NAMESPACE` is such an address only for one of the `namespaces`.
    """
    try:
        host = urllib.parse.urlsplit(url).hostname or ""
        port_of(url)
    except ValueError:
        return None
    name, _, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    if not (name and namespace) or suffix not in ("", "svc", "svc.cluster.local"):
        return None
    return (namespace, name) if suffix or namespace in set(namespaces) else None


def port_of(url: str) -> int:
    """The port of an address, or that of its scheme. Raises ValueError."""
    parts = urllib.parse.urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_secure(port: Object) -> bool:
    """Whether a port of a service speaks TLS, by its number, name or protocol."""
    words = (str(port.get("name", "")), str(port.get("appProtocol", "")))
    return port.get("port") in _SECURE_PORTS or any(word.startswith("https") for word in words)


def exposures(
    services: Iterable[Object] = (),
    ingresses: Iterable[Object] = (),
    routes: Iterable[Object] = (),
    virtual_services: Iterable[Object] = (),
) -> list[Exposure]:
    """The addresses of all services: of load balancers, Ingresses, HTTPRoutes, and Istio's VirtualServices. Hosts with `*` are no address."""
    found: list[Exposure] = []
    for service in services:
        found += _of_load_balancer(service)
    for ingress in ingresses:
        found += _of_ingress(ingress)
    for route in routes:
        found += _of_route(route)
    for virtual_service in virtual_services:
        found += _of_virtual_service(virtual_service)
    return [each for each in dict.fromkeys(found) if "*" not in each.url and len(each.url) <= _ADDRESS_LENGTH]


def _of_load_balancer(service: Object) -> Iterator[Exposure]:
    namespace, name = _names(service)
    for point in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        host = point.get("hostname") or point.get("ip")
        for port in (service.get("spec") or {}).get("ports") or ():
            if host and port.get("protocol", "TCP") == "TCP":
                text = f"[{host}]" if ":" in host else host
                secure, number = is_secure(port), port["port"]
                suffix = "" if number == (443 if secure else 80) else f":{number}"
                yield Exposure(namespace, name, f"{'https' if secure else 'http'}://{text}{suffix}", number)


def _of_ingress(ingress: Object) -> Iterator[Exposure]:
    namespace, _ = _names(ingress)
    spec = ingress.get("spec") or {}
    secure = {host for entry in spec.get("tls") or () for host in entry.get("hosts") or ()}
    for rule in spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            backend = (path.get("backend") or {}).get("service") or {}
            # A pattern is no address.
            prefix = str(path.get("path") or "/")
            if rule.get("host") and backend.get("name") and set(prefix).isdisjoint("()*^$"):
                scheme = "https" if rule["host"] in secure else "http"
                port = (backend.get("port") or {}).get("number")
                yield Exposure(namespace, backend["name"], f"{scheme}://{rule['host']}{prefix.rstrip('/')}", port)


def _of_route(route: Object) -> Iterator[Exposure]:
    namespace, _ = _names(route)
    spec = route.get("spec") or {}
    sections = [str(parent.get("sectionName", "")) for parent in spec.get("parentRefs") or ()]
    scheme = "https" if any(section.startswith("https") for section in sections) else "http"
    for rule in spec.get("rules") or ():
        prefixes = [(match.get("path") or {}).get("value", "/") for match in rule.get("matches") or ()] or ["/"]
        for backend in rule.get("backendRefs") or ():
            if backend.get("kind", "Service") == "Service":
                for host in spec.get("hostnames") or ():
                    url = f"{scheme}://{host}{str(prefixes[0]).rstrip('/')}"
                    yield Exposure(backend.get("namespace") or namespace, backend["name"], url, backend.get("port"))


def _of_virtual_service(virtual_service: Object) -> Iterator[Exposure]:
    namespace, _ = _names(virtual_service)
    spec = virtual_service.get("spec") or {}
    for rule in spec.get("http") or ():
        for route in rule.get("route") or ():
            destination = route.get("destination") or {}
            name, _, rest = str(destination.get("host", "")).partition(".")
            for host in spec.get("hosts") or ():
                port = (destination.get("port") or {}).get("number")
                yield Exposure(rest.partition(".")[0] or namespace, name, f"http://{host}", port)


def _names(item: Object) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace", "default")), str(metadata.get("name", ""))
