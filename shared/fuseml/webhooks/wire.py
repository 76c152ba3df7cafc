"""Parts that the webhooks of all senders share: header names, JSON bodies, ignored deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import strict_json

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine delivery that starts nothing, with the reason."""

    reason: str


class Body(pydantic.BaseModel):
    """The parent of foreign bodies: fields that are not read may change freely."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")


def lower(headers: Headers) -> dict[str, str]:
    """The headers with lower-case names."""
    return {name.lower(): value for name, value in headers.items()}


def first(lower: Headers, *names: str) -> str:
    """The first header of `names` that is not empty; empty without one."""
    return next((lower[name] for name in names if lower.get(name)), "")


def read_json(lower: Headers, body: bytes) -> object:
    """The body as data. Raises InvalidError for a form and for text that is not strict JSON."""
    if lower.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise errors.InvalidError("the webhook sends a form: set its content type to application/json on the git host")
    try:
        return strict_json.parse(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise errors.InvalidError(f"the body of the webhook is not JSON: {reason}") from error
