"""the refs of runs and the default branches of codesets"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RUN = sa.table("run", sa.column("id"), sa.column("ref"), sa.column("trigger"))


def upgrade() -> None:
    op.add_column("codeset", sa.Column("default_branch", sa.String(), nullable=False, server_default=sa.text("''")))
    op.add_column("run", sa.Column("ref", sa.String(), nullable=True))
    rows = op.get_bind().execute(sa.text('SELECT id, "trigger" FROM run')).all()
    for id, document in rows:
        trigger = json.loads(document) if isinstance(document, str) else document
        if trigger.get("ref"):
            op.get_bind().execute(_RUN.update().where(_RUN.c.id == id).values(ref=trigger["ref"]))
