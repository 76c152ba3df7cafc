"""sources of records, workflows, assignments and projects, and their outcomes among the decisions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("name", "project", "codeset", "registered", "branch", "path")),
        sa.Column("generation", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("state", "message")),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("refusals", "changes")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("commit", "seen", "checked", "synced", "by", "created")),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_source_project"), "source", ["project"], unique=False)
    op.create_table(
        "source_item",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "name", "source")),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("fingerprint", "file")),
        sa.ForeignKeyConstraint(["source"], ["source.name"]),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_index(op.f("ix_source_item_source"), "source_item", ["source"], unique=False)
    op.add_column("decision", sa.Column("outcome", sa.String(), nullable=False, server_default=sa.text("''")))
