"""passwords of codesets"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for the codesets of a former release, whose passwords follow from the keys until they are rotated.
    op.add_column("codeset", sa.Column("git_password", sa.String(), nullable=True))
