"""Webhooks of MLflow's model registry. Nothing of a body may be believed before `verify` has accepted it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.webhooks import signatures, wire

_DELIVERY = "x-mlflow-delivery-id"

# The models and prompts of MLflow's own test deliveries (infra/platform-facts.md 1.2).
_MLFLOW_EXAMPLES = frozenset({"example_model", "example_prompt"})

# Every registry event of MLflow (infra/platform-facts.md 1.2) and its required fields.
_REGISTRY_EVENTS: Mapping[str, tuple[str, ...]] = {
    "registered_model.created": (),
    "model_version.created": ("version", "source"),
    "model_version_tag.set": ("version", "key", "value"),
    "model_version_tag.deleted": ("version", "key"),
    "model_version_alias.created": ("version", "alias"),
    "model_version_alias.deleted": ("alias",),
    "prompt.created": (),
    "prompt_version.created": ("version",),
    "prompt_tag.set": ("key", "value"),
    "prompt_tag.deleted": ("key",),
    "prompt_version_tag.set": ("version", "key", "value"),
    "prompt_version_tag.deleted": ("version", "key"),
    "prompt_alias.created": ("version", "alias"),
    "prompt_alias.deleted": ("alias",),
}


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """A change in MLflow's model or prompt registry; `kind` is `<entity>.<action>` in MLflow's words.

    `delivery_id` stays the same when MLflow retries. `run_id` may be missing although the version has a run (infra/platform-facts.md 1.3):
    read the version again. `test` marks MLflow's own test deliveries, whose model does not exist.
    """

    kind: str
    name: str
    delivery_id: str
    timestamp: str
    version: str | None = None
    source: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None
    key: str | None = None
    value: str | None = None
    test: bool = False


def delivery_id(headers: wire.Headers) -> str:
    """MLflow's id of the delivery; empty without one."""
    return wire.lower(headers).get(_DELIVERY, "")


def verify(secret: str, headers: wire.Headers, body: bytes, now: float, max_age: float = 300) -> None:
    """Accept a body that MLflow signed with `secret` at most `max_age` seconds before or after `now` (Unix seconds).

    The rule is that of infra/platform-facts.md 1.1. Raises UnauthenticatedError with the reason, PermanentError without a secret.
    """
    given = wire.lower(headers)
    signature = given.get("x-mlflow-signature")
    if not signature:
        raise errors.UnauthenticatedError("the delivery is not signed: create the webhook in MLflow with the tracking server's secret")
    delivery, timestamp = given.get(_DELIVERY, ""), given.get("x-mlflow-timestamp", "")
    if not delivery or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise errors.UnauthenticatedError("the X-MLflow-Delivery-Id or X-MLflow-Timestamp header is missing or malformed")
    signed = f"{delivery}.{timestamp}.".encode("utf-8", "replace") + body
    expected = "v1," + base64.b64encode(signatures.digest(secret, signed)).decode()
    if not signatures.same(expected, signature):
        raise errors.UnauthenticatedError(
            "the X-MLflow-Signature header does not fit the body: another secret, or the delivery was changed on its way"
        )
    if abs(now - int(timestamp)) > max_age:
        raise errors.UnauthenticatedError(
            f"the delivery is not fresh: it was signed more than {max_age:g} seconds ago or ahead; is it replayed, or a clock wrong?"
        )


def parse(headers: wire.Headers, body: bytes) -> RegistryEvent | wire.Ignored:
    """Read a webhook of MLflow's registry. Raises InvalidError where the body or its headers break the format."""
    given = wire.lower(headers)
    delivery = given.get(_DELIVERY)
    if not delivery:
        raise errors.InvalidError("this is not a webhook of MLflow: the X-MLflow-Delivery-Id header is missing")
    envelope = document.validate(_Envelope, wire.read_json(given, body), kind="MLflow event")
    kind = f"{envelope.entity}.{envelope.action}"
    if kind not in _REGISTRY_EVENTS:
        return wire.Ignored(f"MLflow's event {kind} is not about the registry, or this version of FuseML does not know it")
    data = document.validate(_RegistryData, envelope.data, kind=f"data of {kind}")
    missing = [errors.Problem(f"data.{name}", "is required") for name in _REGISTRY_EVENTS[kind] if getattr(data, name) is None]
    if missing:
        raise errors.InvalidError(f"the MLflow event {kind} is not complete: {missing[0]}", missing)
    return RegistryEvent(
        kind=kind,
        delivery_id=delivery,
        timestamp=envelope.timestamp,
        test=data.name in _MLFLOW_EXAMPLES,
        **{**data.model_dump(), "tags": data.tags or {}},
    )


class _Envelope(wire.Body):
    entity: str
    action: str
    timestamp: str
    data: dict[str, object]


class _RegistryData(wire.Body):
    name: Annotated[str, pydantic.StringConstraints(min_length=1)]
    version: document.Text | None = None
    source: str | None = None
    run_id: str | None = None
    tags: dict[str, str] | None = None
    alias: str | None = None
    key: str | None = None
    value: str | None = None
