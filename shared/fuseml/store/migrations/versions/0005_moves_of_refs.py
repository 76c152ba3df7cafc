"""moves of refs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With a default on the server: the previous release, which may still run, inserts rows without it.
    op.add_column("codeset_ref", sa.Column("push", sa.String(), nullable=False, server_default=sa.text("''")))
    op.create_table(
        "codeset_move",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("codeset", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("delivery", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("received", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("codeset_move_to", "codeset_move", ["project", "codeset", "ref", "commit"], unique=False)
    op.create_index("codeset_move_from", "codeset_move", ["project", "codeset", "ref", "before"], unique=False)
    op.create_index(op.f("ix_codeset_move_received"), "codeset_move", ["received"], unique=False)
    # The history of each ref begins with its present commit.
    op.execute(
        'INSERT INTO codeset_move (project, codeset, ref, kind, "commit", delivery, digest, event, received) '
        "SELECT project, codeset, ref, 'start', \"commit\", '', '', '', updated FROM codeset_ref"
    )
