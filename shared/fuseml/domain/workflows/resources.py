"""Compute resources of a step: quantities, and the rules of Kubernetes for the requests and limits of a container.

The rules are those of `ValidateResourceRequirements` and `validateContainerResourceName` (kubernetes pkg/apis/core/validation). An extended
resource is a device or another countable thing of a node, named with a domain: `nvidia.com/gpu`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from fuseml.domain import errors

_QUANTITY = re.compile(r"\+?(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<power>[+-]?[0-9]{1,2}))?")
_FACTORS = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}.items()
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
_HUGE_PAGES = "hugepages-"
_NATIVE_DOMAIN = "kubernetes.io/"
_OF_QUOTAS = "requests."

Amounts = Mapping[str, str]
"""Resource -> quantity."""

Fault = tuple[tuple[str, str], str]
"""The place of a violation, (`requests` or `limits`, resource), and its message."""


def quantity(text: str) -> Decimal:
    """The value of a Kubernetes quantity (`500m`, `2`, `1.5Gi`, `1e3`; apimachinery, resource.ParseQuantity). Raises InvalidError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise errors.InvalidError(f"{text!r} is not a quantity; examples: 500m, 2, 1.5Gi")
    return Decimal(match["number"]) * (Decimal(10) ** int(match["power"]) if match["power"] else _FACTORS[match["suffix"] or ""])


def is_extended(resource: str) -> bool:
    """Whether the resource is an extended one, such as `nvidia.com/gpu`."""
    return "/" in resource and _NATIVE_DOMAIN not in resource and not resource.startswith(_OF_QUOTAS)


def devices(limits: Amounts) -> dict[str, int]:
    """The extended resources among valid limits, each with its number; those of none are left out."""
    amounts = {resource: int(quantity(amount)) for resource, amount in limits.items() if is_extended(resource)}
    return {resource: number for resource, number in amounts.items() if number}


def faults(requests: Amounts, limits: Amounts, pending: frozenset[str] = frozenset()) -> Iterator[Fault]:
    """The violations of the rules. Amounts that are in `pending` have no value yet, and fit."""
    for kind, amounts in (("requests", requests), ("limits", limits)):
        for resource, amount in amounts.items():
            message = _unnamed(resource) or ("" if amount in pending else _uncounted(resource, amount))
            if message:
                yield (kind, resource), message
    for resource, amount in requests.items():
        if _unnamed(resource) or amount in pending or _uncounted(resource, amount):
            continue
        message = _unequal(resource, amount, limits.get(resource), pending)
        if message:
            yield ("requests", resource), message


def _unnamed(resource: str) -> str:
    if not _NAME.fullmatch(resource):
        return f"{resource!r} is not the name of a resource; examples: cpu, memory, nvidia.com/gpu"
    if "/" not in resource and resource not in _STANDARD and not resource.startswith(_HUGE_PAGES):
        return f"{resource!r} is not a resource of containers: write cpu, memory, ephemeral-storage, or a device with its domain, nvidia.com/gpu"
    if resource.startswith(_OF_QUOTAS):
        return f"{resource!r} is a name of quotas; write {resource.removeprefix(_OF_QUOTAS)!r}"
    return ""


def _uncounted(resource: str, amount: str) -> str:
    try:
        value = quantity(amount)
    except errors.InvalidError:
        return f"{amount!r} is not a quantity; examples: 500m, 2, 2Gi"
    if is_extended(resource) and value != value.to_integral_value():
        return f"{amount!r} is not a whole number, and a step gets whole devices only"
    return ""


def _unequal(resource: str, request: str, limit: str | None, pending: frozenset[str]) -> str:
    """The contradiction of a request and the limit of the same resource; empty without one."""
    shared = not is_extended(resource) and not resource.startswith(_HUGE_PAGES)
    if limit is None:
        return "" if shared else f"a request of {resource!r} needs a limit; write it under limits only, which requests as many"
    if limit in pending or _uncounted(resource, limit):
        return ""
    if shared:
        return f"the request {request!r} is above the limit {limit!r}" if quantity(request) > quantity(limit) else ""
    return f"the request {request!r} must be equal to the limit {limit!r}, or left out" if quantity(request) != quantity(limit) else ""
