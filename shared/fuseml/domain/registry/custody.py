"""Custody of secrets: a stored secret goes only to the addresses for which it was given.

A change that keeps a secret, by `<hidden>` or by not naming it, adds no address to which the secret would go: an endpoint, or an address in
the configuration. Else an editor of addresses would read the secrets of the record at a server of their own. An address is scheme, host
and port of a URL; a path may change. Names such as `host:port`, and the values of variables named like addresses, count as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from fuseml.domain import errors
from fuseml.domain.registry import extension

_LISTED = 20
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22, "git": 9418}
# A bucket or a folder of the client, no server.
_NO_SERVERS = frozenset({"s3", "s3a", "s3n", "gs", "azure", "abfs", "abfss", "wasb", "wasbs", "file", "dbfs", "models", "runs", "sqlite"})
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://([^\s,;\"'<>|]+)")
_HOST_AND_PORT = re.compile(r"(?=[0-9.]+\.|[^:]*[A-Za-z])[A-Za-z0-9_.-]{1,253}:[0-9]{1,5}(?:/.*)?", re.DOTALL)
_NAMED = re.compile(
    r"(?:^|_|-)(?:ur[il]s?|hosts?|hostnames?|endpoints?|addr|address|addresses|servers?|brokers?|bootstrap|domain|port|proxy|dsn"
    r"|registry|gateway)(?:$|_|-)",
    re.IGNORECASE,
)

Reveal = Callable[[str], str]
"""The value of a stored secret. Raises PermanentError when it cannot be read."""


def address(url: str) -> str:
    """Scheme, host and port of a URL, as messages may show them; text that is no plain URL stands for itself."""
    text = url.strip()
    if "://" not in text:
        return text.split("/", 1)[0].lower()
    # Clients disagree on the host of such text.
    if re.search(r"[\\\s\x00-\x1f\x7f]", text):
        return text
    scheme, _, rest = text.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
    default = f":{_PORTS.get(scheme.lower(), '')}"
    return f"{scheme.lower()}://{(host.removesuffix(default) if default != ':' else host).rstrip('.')}"


def addresses(name: str, value: str) -> Iterator[str]:
    """The addresses in the value of the variable `name`."""
    found = False
    for match in _URL.finditer(value):
        found = True
        # `jdbc:postgresql://host`: the scheme is the last part.
        if match[1].lower() not in _NO_SERVERS:
            yield address(match[0])
    if not found and value.strip() and (_HOST_AND_PORT.fullmatch(value.strip()) or _NAMED.search(name)):
        yield address(value)


def expect_given(stored: extension.Extension, changed: extension.Extension, given: extension.Extension, reveal: Reveal) -> None:
    """Refuse a change that sends kept secrets to new addresses. `given` is the patch, unsealed: its secrets are for the addresses of `changed`.

    Raises InvalidError with the field of each secret that must be sent again.
    """
    problems: list[errors.Problem] = []
    before = {service.id: service for service in stored.services}
    sent = {service.id: service for service in given.services}
    for service in changed.services:
        former = before.get(service.id)
        if former is None or not former.credentials:
            continue
        known = {address for _, address in _destinations(stored, former)}
        new = [(place, address) for place, address in _destinations(changed, service) if address not in known]
        fresh = {item.id: item.configuration for item in sent[service.id].credentials} if service.id in sent else {}
        for credentials in service.credentials:
            held = next((item.configuration for item in former.credentials if item.id == credentials.id), {})
            named = fresh.get(credentials.id, {})
            kept = [key for key, value in held.items() if value != extension.HIDDEN and _keeps(credentials.configuration, named, key)]
            own = _own_addresses(held, named, reveal) if kept else []
            problems += _problems(f"services[{service.id}].credentials[{credentials.id}].configuration", kept, [*new, *own])
    if problems:
        raise errors.InvalidError(str(problems[0]), problems[:_LISTED])


def expect_environment(stored: Mapping[str, str], given: Mapping[str, str], reveal: Reveal, moved: Mapping[str, tuple[str, str]]) -> None:
    """As `expect_given`, for an environment of secrets. `moved` maps the other fields that decide who receives it to their values, before
    and after.
    """
    kept = [key for key, value in given.items() if value == extension.HIDDEN and key in stored]
    new = [(name, after) for name, (before, after) in moved.items() if _moves(before, after)]
    own = _own_addresses(stored, given, reveal) if kept else []
    problems = list(_problems("environment", kept, [*new, *own]))
    if problems:
        raise errors.InvalidError(str(problems[0]), problems[:_LISTED])


def _moves(before: str, after: str) -> bool:
    if not after or before == after:
        return False
    return "://" not in after or address(before) != address(after)


def _keeps(present: Mapping[str, str], named: Mapping[str, str], key: str) -> bool:
    """Whether the record keeps the stored value of a key that the patch names by `<hidden>`, or not at all."""
    return key in present and named.get(key, extension.HIDDEN) == extension.HIDDEN


def _destinations(record: extension.Extension, service: extension.Service) -> Iterator[tuple[str, str]]:
    """The places of the record that decide where secrets of the service go, with their addresses."""
    yield from _configured("configuration", record.configuration)
    above = f"services[{service.id}]"
    yield from _configured(f"{above}.configuration", service.configuration)
    for endpoint in service.endpoints:
        place = f"{above}.endpoints[{address(endpoint.url)}]"
        yield place, address(endpoint.url)
        yield from _configured(f"{place}.configuration", endpoint.configuration)


def _configured(place: str, configuration: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in configuration.items():
        for found in addresses(key, value):
            yield f"{place}.{key}", found


def _own_addresses(held: Mapping[str, str], named: Mapping[str, str], reveal: Reveal) -> list[tuple[str, str]]:
    """New addresses among the given secrets themselves: a tracking URI beside its token. `held` are the stored ones."""
    new = []
    for key, value in named.items():
        found = set(addresses(key, value)) if value != extension.HIDDEN else set()
        if found and not found <= set(addresses(key, _read(held.get(key, ""), reveal))):
            # The value is secret, and so is its address.
            new.append((key, extension.HIDDEN))
    return new


def _read(value: str, reveal: Reveal) -> str:
    if value in ("", extension.HIDDEN):
        return ""
    try:
        return reveal(value)
    except errors.PermanentError:
        return ""


def _problems(place: str, kept: list[str], new: list[tuple[str, str]]) -> Iterator[errors.Problem]:
    if new:
        field, where = new[0]
        target = field if where == extension.HIDDEN else f"{field} ({where})"
        for key in kept:
            yield errors.Problem(
                f"{place}.{key}",
                f"the stored secret was not given for the new address in {target}; send the secret again with this change, or remove it first",
            )
