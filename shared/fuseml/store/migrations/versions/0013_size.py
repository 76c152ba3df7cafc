"""the schedule of health checks, and indexes in the order of lists"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ORDERED = {
    "run": ("sequence", ("workflow", "project", "codeset", "commit", "state")),
    "application": ("name", ("type", "workflow")),
    "ledger_event": ("sequence", ("type", "subject", "source", "received")),
}
_NO_TICK = sa.text("type != 'dev.knative.sources.ping'")


def upgrade() -> None:
    op.add_column("extension", sa.Column("check_due", sa.String(), nullable=False, server_default=sa.text("''")))
    op.add_column("extension", sa.Column("check_failures", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("extension", sa.Column("checked", sa.String(), nullable=False, server_default=sa.text("''")))
    op.create_index(op.f("ix_extension_check_due"), "extension", ["check_due"], unique=False)
    for table, (order, names) in _ORDERED.items():
        for name in names:
            op.create_index(f"{table}_by_{name}", table, [name, order], unique=False)
            if name != "source":
                op.drop_index(op.f(f"ix_{table}_{name}"), table_name=table)
    op.create_index("ledger_event_shown", "ledger_event", ["sequence"], unique=False, sqlite_where=_NO_TICK, postgresql_where=_NO_TICK)
