"""Extensions, and their services as what selectors ask for."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class ExtensionRecord(columns.Row, table=True):
    """One extension with all its services as a document; each value of its credentials is sealed.

    `check_due` is the time of its next health check; empty after a change, which makes the changed parts due at once. `check_failures` counts
    the checks in a row in which nothing was healthy. `checked` is the time of the last check that confirmed the health in the document.
    """

    __tablename__ = "extension"

    id: str = Field(primary_key=True)
    product: str = Field(default="", index=True)
    zone: str = Field(default="", index=True)
    document: dict[str, Any] = Field(sa_type=columns.Json)
    revision: int
    created: str
    updated: str
    check_due: str = Field(default="", index=True, sa_column_kwargs={"server_default": sqlalchemy.text("''")})
    check_failures: int = Field(default=0, sa_column_kwargs={"server_default": sqlalchemy.text("0")})
    checked: str = Field(default="", sa_column_kwargs={"server_default": sqlalchemy.text("''")})


class ExtensionService(columns.Row, table=True):
    """The attributes of selectors and of their ranking, as columns: an index narrows and orders the candidates, the domain decides.

    `internal` and `external`: whether it has such an endpoint that is not known to be unhealthy; `unhealthy_internal` and
    `unhealthy_external`: whether it has only unhealthy ones. `version` is the sort key of the extension's version (domain.registry.versions).
    """

    __tablename__ = "extension_service"
    # Services of the consumer's zone are read in the order (internal first, version), those of all zones by version.
    __table_args__ = tuple(
        sqlalchemy.Index(f"extension_service_{name}", *keys, *order, "version", "extension_id")
        for field, keys in (("resource", ["resource"]), ("category", ["category"]), ("product", ["product"]), ("any", []))
        for name, order in ((f"{field}_in_zone", ["zone", "internal"]), (f"{field}_anywhere", ["external"]))
    )

    extension_id: str = Field(primary_key=True, foreign_key="extension.id", ondelete="CASCADE")
    service_id: str = Field(primary_key=True)
    resource: str = ""
    category: str = ""
    product: str = ""
    zone: str = ""
    internal: bool = False
    external: bool = False
    unhealthy_internal: bool = Field(default=False, sa_column_kwargs={"server_default": sqlalchemy.false()})
    unhealthy_external: bool = Field(default=False, sa_column_kwargs={"server_default": sqlalchemy.false()})
    version: bytes = b""
