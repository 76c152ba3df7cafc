"""retention of artifacts, and the locks of runs"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_LOCK = sa.table("run_lock", sa.column("address"), sa.column("run_id"))
_ANONYMOUS = sa.table("anonymous_artifact", *(sa.column(name) for name in ("run_id", "step", "output", "project", "kind", "due")))
_ADDRESS = re.compile(r"(?:code|model|dataset|runnable|image)://[^\s'\"<>,;|&*@/]+/[^\s'\"<>,;|&*@]+/[^\s'\"<>,;|&*@/]+")
_MODEL = re.compile(r"models:/([^/@\s]+)/(\d+)")
_LONGEST = 500
_MOST = 5000
_BATCH = 200


def upgrade() -> None:
    op.create_table(
        "retention_policy",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=True),
        sa.Column("days", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("by", "updated", "position", "walked", "leftovers", "swept")),
        sa.PrimaryKeyConstraint("project", "kind"),
    )
    op.create_table(
        "run_lock",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("address", "run_id"),
    )
    op.create_index(op.f("ix_run_lock_run_id"), "run_lock", ["run_id"], unique=False)
    op.create_table(
        "anonymous_artifact",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("run_id", "step", "output", "project", "kind", "due")),
        sa.PrimaryKeyConstraint("run_id", "step", "output"),
    )
    op.create_index("anonymous_artifact_by_kind", "anonymous_artifact", ["project", "kind", "due"], unique=False)
    op.create_table(
        "artifact_removal",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("due", sa.String(), nullable=False),
        sa.Column("taken", sa.String(), nullable=True),
        sa.Column("gone", sa.String(), nullable=True),
        sa.Column("problem", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_index("artifact_removal_due", "artifact_removal", ["gone", "due"], unique=False)
    op.create_index("artifact_by_age", "artifact", ["name", "project", "kind", "created", "address"], unique=False)
    op.create_index("artifact_by_location", "artifact", ["location"], unique=False)
    _fill()


def _fill() -> None:
    """The locks and the anonymous artifacts of the runs that former releases have planned; a batch at a time."""
    connection, last = op.get_bind(), ""
    while rows := connection.execute(
        sa.text("SELECT id, project, plan FROM run WHERE id > :last AND plan IS NOT NULL ORDER BY id LIMIT :batch"),
        {"last": last, "batch": _BATCH},
    ).all():
        for run_id, project, document in rows:
            plan = json.loads(document) if isinstance(document, str) else document
            steps = plan.get("steps", ())
            named = sorted({*_codes(steps), *(found for text in _texts(plan) for found in _addresses(project, text))})[:_MOST]
            if named:
                connection.execute(_LOCK.insert(), [{"address": address, "run_id": run_id} for address in named])
            made = [
                {"run_id": run_id, "step": step["name"], "output": item["output"], "project": project, "kind": item["kind"], "due": ""}
                for step in steps
                for item in step.get("collects", ())
                if not item.get("name")
            ]
            if made:
                connection.execute(_ANONYMOUS.insert(), made)
        last = rows[-1][0]


def _codes(steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        for item in step.get("checkouts", ()):
            yield f"code://{item['project']}/{item['codeset']}/{item['commit']}"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _addresses(project: str, text: str) -> Iterator[str]:
    yield from (found for found in _ADDRESS.findall(text) if len(found) <= _LONGEST)
    yield from (f"model://{project}/{name}/{version}" for name, version in _MODEL.findall(text))
