"""exports of lineage, and edges by run"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lineage_export",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("sent", sa.JSON(), nullable=False),
        sa.Column("refusals", sa.JSON(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("sequence"),
    )
    op.create_index(op.f("ix_lineage_export_done"), "lineage_export", ["done"], unique=False)
    op.create_index(op.f("ix_artifact_edge_run"), "artifact_edge", ["run"], unique=False)
