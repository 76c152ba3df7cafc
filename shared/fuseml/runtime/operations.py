"""Documented operations of the HTTP API: query models, the error body, and the description of a route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic

MAX_OFFSET = 1 << 53
"""The largest offset of bytes: the largest whole number that every reader of JSON reads exactly."""

Revision = Annotated[int, pydantic.Field(ge=1, le=(1 << 31) - 1)]
"""The number of a revision; the database holds it in 32 bits."""


class Query(pydantic.BaseModel):
    """The parent of query models. An empty value means absent, as the original CLI sends it (infra/platform-facts.md 6.1)."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class PageQuery(Query):
    limit: int = pydantic.Field(100, ge=1, le=500, description="rows a page")
    cursor: str | None = pydantic.Field(None, description="from the Link header of the page before")


class ErrorBody(pydantic.BaseModel):
    """The one error body; the original API's fields and `details`."""

    name: str
    id: str
    message: str
    temporary: bool
    timeout: bool
    fault: bool
    details: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Operation:
    """One documented route. `text` is the content type of a response that is neither JSON nor YAML; `refusals` are its own statuses of errors."""

    method: str
    path: str
    summary: str
    handler: Callable[..., object]
    query: type[Query] | None
    body: type[pydantic.BaseModel] | None
    document: type[pydantic.BaseModel] | None
    returns: object
    dry_run: object
    status: int
    public: bool
    step: str
    media: tuple[str, ...]
    text: str
    refusals: tuple[int, ...]
