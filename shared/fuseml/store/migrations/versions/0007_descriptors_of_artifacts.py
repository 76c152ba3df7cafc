"""descriptors, names and metrics of artifacts"""

from __future__ import annotations

import json
import math
import re

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ARTIFACT = sa.table("artifact", *(sa.column(name) for name in ("address", "format", "digest", "location")))
_METRIC = sa.table("artifact_metric", *(sa.column(name) for name in ("address", "name", "value")))
_DIGEST = re.compile(r"[A-Za-z0-9]{2,20}:[A-Za-z0-9+/=_-]{7,200}")
_METRIC_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./:@ -]{0,248}[A-Za-z0-9_./:@-])?")
_BATCH = 1000


def upgrade() -> None:
    # Without a value, or with a default on the server: the previous release, which may still run, inserts rows without them.
    for name, kind in (
        ("step", sa.String()),
        ("type", sa.String()),
        ("format", sa.String()),
        ("framework", sa.String()),
        ("framework_version", sa.String()),
        ("framework_order", sa.LargeBinary()),
        ("digest", sa.String()),
        ("size", sa.BigInteger()),
        ("location", sa.String()),
    ):
        op.add_column("artifact", sa.Column(name, kind, nullable=True))
    op.add_column("artifact", sa.Column("external", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("artifact_edge", sa.Column("step", sa.String(), nullable=True))
    for name in ("kind", "name", "project", "run"):
        op.drop_index(f"ix_artifact_{name}", "artifact")
    for name, keys in (
        ("kind", ["kind", "address"]),
        ("project", ["project", "kind", "address"]),
        ("name", ["name", "project", "kind", "address"]),
        ("run", ["run", "address"]),
        ("type", ["type", "address"]),
        ("format", ["format", "address"]),
        ("framework", ["framework", "address", "framework_order"]),
    ):
        op.create_index(f"artifact_by_{name}", "artifact", keys, unique=False)
    searched = ["kind", "project", "name", "format", "framework", "framework_order", "type", "run", "step", "created"]
    op.create_index("artifact_search", "artifact", ["address", *searched], unique=False)
    _create_tables()
    _fill()


def _create_tables() -> None:
    op.create_table(
        "artifact_metric",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("address", "name"),
    )
    op.create_index("artifact_metric_search", "artifact_metric", ["name", "address", "value"], unique=False)
    op.create_table(
        "artifact_tag",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("immutable", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "project", "name", "tag"),
    )
    op.create_index("artifact_tag_search", "artifact_tag", ["tag", "address"], unique=False)
    op.create_index("artifact_tag_address", "artifact_tag", ["address"], unique=False)
    op.create_table(
        "artifact_label",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("address", "label"),
    )
    op.create_index("artifact_label_search", "artifact_label", ["label", "address"], unique=False)
    op.create_table(
        "artifact_change",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("immutable", sa.Boolean(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("made", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_artifact_change_address"), "artifact_change", ["address"], unique=False)
    op.create_index(op.f("ix_artifact_change_previous"), "artifact_change", ["previous"], unique=False)


def _fill() -> None:
    """The columns and metrics of the artifacts that former releases have recorded, from their details; a batch at a time."""
    connection, last = op.get_bind(), ""
    while rows := connection.execute(
        sa.text("SELECT address, kind, details FROM artifact WHERE address > :last ORDER BY address LIMIT :batch"),
        {"last": last, "batch": _BATCH},
    ).all():
        for address, kind, document in rows:
            details = json.loads(document) if isinstance(document, str) else document
            digest, location = (details.get(name) for name in ("digest", "uri"))
            values = {
                "format": "git" if kind == "code" else "mlflow" if kind == "model" else None,
                "digest": f"gitCommit:{address.rpartition('/')[2]}" if kind == "code" else digest,
                "location": location if isinstance(location, str) else None,
            }
            if not isinstance(values["digest"], str) or not _DIGEST.fullmatch(values["digest"]):
                values["digest"] = None
            connection.execute(_ARTIFACT.update().where(_ARTIFACT.c.address == address).values(values))
            metrics = details.get("metrics") if isinstance(details.get("metrics"), dict) else {}
            numbers = [
                {"address": address, "name": name, "value": number}
                for name, value in metrics.items()
                if _METRIC_NAME.fullmatch(name) and (number := _finite(value)) is not None
            ]
            if numbers:
                connection.execute(_METRIC.insert(), numbers)
        last = rows[-1][0]


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
