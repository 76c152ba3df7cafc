"""the health of services"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FLAGS = ("internal", "external", "unhealthy_internal", "unhealthy_external")
_SERVICE = sa.table(
    "extension_service", sa.column("extension_id"), sa.column("service_id"), *(sa.column(name, sa.Boolean()) for name in _FLAGS)
)


def upgrade() -> None:
    for name in ("unhealthy_internal", "unhealthy_external"):
        op.add_column("extension_service", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    rows = op.get_bind().execute(sa.text("SELECT id, document FROM extension")).all()
    for id, document in rows:
        for service in (json.loads(document) if isinstance(document, str) else document)["services"]:
            flags = {name: value for type in _unhealthy_types(service) for name, value in ((type, False), (f"unhealthy_{type}", True))}
            if flags:
                one = _SERVICE.update().where(_SERVICE.c.extension_id == id, _SERVICE.c.service_id == service["id"])
                op.get_bind().execute(one.values(flags))


def _unhealthy_types(service: dict[str, Any]) -> set[str]:
    healths = [(endpoint["type"], _is_unhealthy(endpoint)) for endpoint in service["endpoints"]]
    return {type for type, unhealthy in healths if unhealthy} - {type for type, unhealthy in healths if not unhealthy}


def _is_unhealthy(endpoint: dict[str, Any]) -> bool:
    health = (endpoint.get("status") or {}).get("health") or {}
    return bool(health.get("state") == "unhealthy")
