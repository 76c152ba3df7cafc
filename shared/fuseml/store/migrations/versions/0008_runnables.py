"""registered versions of runnables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runnable",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("version_order", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("original", sa.JSON(), nullable=True),
        sa.Column("run", sa.String(), nullable=True),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_index("runnable_by_name", "runnable", ["name", "project", "version_order"], unique=False)
    op.create_index("runnable_by_project", "runnable", ["project", "name", "version_order", "address"], unique=False)
