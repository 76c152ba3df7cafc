"""origins of codesets, and commit statuses"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "codeset_origin",
        *_texts("project", "codeset", "url", "host", "base", "path", "extension", "service", "secret", "webhook", "webhook_problem"),
        *_texts("delivered", "delivery", "refused", "refusal", "due", "checked", "synced", "problem"),
        sa.Column("failures", sa.Integer(), nullable=False),
        *_texts("created"),
        sa.PrimaryKeyConstraint("project", "codeset"),
    )
    op.create_index(op.f("ix_codeset_origin_due"), "codeset_origin", ["due"], unique=False)
    op.create_table(
        "commit_status",
        *_texts("project", "codeset", "commit", "context", "run"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        *_texts("state", "description", "target_url"),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.String(), nullable=True),
        *_texts("claimed", "problem", "updated"),
        sa.PrimaryKeyConstraint("project", "codeset", "commit", "context"),
    )
    op.create_index("commit_status_due", "commit_status", ["sent", "due"], unique=False)
    op.create_index(op.f("ix_commit_status_updated"), "commit_status", ["updated"], unique=False)
