"""copies of artifacts in other stores, and mirrors"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifact_copy",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("address", "store", "copy_address", "location", "created")),
        sa.PrimaryKeyConstraint("address", "store"),
    )
    op.create_index(op.f("ix_artifact_copy_copy_address"), "artifact_copy", ["copy_address"], unique=False)
    op.create_table(
        "artifact_mirror",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("store", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind"),
    )
