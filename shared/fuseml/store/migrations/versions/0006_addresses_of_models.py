"""addresses of models"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A table of its own: the previous release, which may still run, accepts no further field in the document of an application.
    op.create_table(
        "model_address",
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("requested", sa.String(), nullable=False),
        sa.Column("follow", sa.Boolean(), nullable=False),
        sa.Column("latest", sa.String(), nullable=True),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("checked", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("application"),
    )
