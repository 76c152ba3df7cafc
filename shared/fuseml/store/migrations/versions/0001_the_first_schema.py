"""the first schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "application",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("traffic", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_application_type"), "application", ["type"], unique=False)
    op.create_index(op.f("ix_application_workflow"), "application", ["workflow"], unique=False)
    op.create_table(
        "application_revision",
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("application", "revision"),
    )
    op.create_table(
        "artifact",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_index(op.f("ix_artifact_kind"), "artifact", ["kind"], unique=False)
    op.create_index(op.f("ix_artifact_name"), "artifact", ["name"], unique=False)
    op.create_index(op.f("ix_artifact_project"), "artifact", ["project"], unique=False)
    op.create_index(op.f("ix_artifact_run"), "artifact", ["run"], unique=False)
    op.create_table(
        "artifact_edge",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source", "target", "run"),
    )
    op.create_index(op.f("ix_artifact_edge_target"), "artifact_edge", ["target"], unique=False)
    op.create_table(
        "codeset_ref",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("codeset", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("commit", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("project", "codeset", "ref"),
    )
    op.create_table(
        "decision",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=True),
        sa.Column("run", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("made", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("decision_event", "decision", ["source", "event"], unique=False)
    op.create_index(op.f("ix_decision_commit"), "decision", ["commit"], unique=False)
    op.create_index(op.f("ix_decision_made"), "decision", ["made"], unique=False)
    op.create_index(op.f("ix_decision_run"), "decision", ["run"], unique=False)
    op.create_table(
        "declined_delivery",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("ingress", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("delivery", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("received", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("declined_delivery_bucket", "declined_delivery", ["bucket", "sequence"], unique=False)
    op.create_index(op.f("ix_declined_delivery_commit"), "declined_delivery", ["commit"], unique=False)
    op.create_index(op.f("ix_declined_delivery_received"), "declined_delivery", ["received"], unique=False)
    op.create_table(
        "extension",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_extension_product"), "extension", ["product"], unique=False)
    op.create_index(op.f("ix_extension_zone"), "extension", ["zone"], unique=False)
    op.create_table(
        "handled_event",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("reply", sa.JSON(), nullable=True),
        sa.Column("handled", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source", "id", "consumer"),
    )
    op.create_index(op.f("ix_handled_event_handled"), "handled_event", ["handled"], unique=False)
    op.create_table(
        "ledger_event",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("received", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("source", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_ledger_event_received"), "ledger_event", ["received"], unique=False)
    op.create_index(op.f("ix_ledger_event_subject"), "ledger_event", ["subject"], unique=False)
    op.create_index(op.f("ix_ledger_event_type"), "ledger_event", ["type"], unique=False)
    op.create_table(
        "milestone",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("moment", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_table(
        "outbox",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "project",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("codeset", sa.String(), nullable=True),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("trigger", sa.JSON(), nullable=False),
        sa.Column("request", sa.String(), nullable=True),
        sa.Column("caused_by", sa.String(), nullable=True),
        sa.Column("concurrency_group", sa.String(), nullable=True),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("submitted", sa.String(), nullable=True),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("executed", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.String(), nullable=True),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("started", sa.String(), nullable=True),
        sa.Column("finished", sa.String(), nullable=True),
        sa.Column("forgotten", sa.String(), nullable=True),
        sa.Column("expired", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("sequence"),
    )
    op.create_index(op.f("ix_run_caused_by"), "run", ["caused_by"], unique=False)
    op.create_index(op.f("ix_run_codeset"), "run", ["codeset"], unique=False)
    op.create_index(op.f("ix_run_commit"), "run", ["commit"], unique=False)
    op.create_index(op.f("ix_run_concurrency_group"), "run", ["concurrency_group"], unique=False)
    op.create_index(op.f("ix_run_project"), "run", ["project"], unique=False)
    op.create_index(op.f("ix_run_request"), "run", ["request"], unique=True)
    op.create_index(op.f("ix_run_state"), "run", ["state"], unique=False)
    op.create_index(op.f("ix_run_workflow"), "run", ["workflow"], unique=False)
    op.create_index("run_not_forgotten", "run", ["forgotten", "finished"], unique=False)
    op.create_index("run_not_expired", "run", ["expired", "finished"], unique=False)
    op.create_table(
        "workflow",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.Column("deleted", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "workflow_revision",
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("workflow", "revision"),
    )
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workflow", sa.String(), nullable=False),
        sa.Column("pattern", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow"],
            ["workflow.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("workflow", "pattern"),
    )
    op.create_index(op.f("ix_assignment_pattern"), "assignment", ["pattern"], unique=False)
    op.create_index(op.f("ix_assignment_workflow"), "assignment", ["workflow"], unique=False)
    op.create_table(
        "codeset",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("webhook_secret", sa.String(), nullable=False),
        sa.Column("pushes_seen", sa.Integer(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["project.name"],
        ),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.create_table(
        "delivery",
        sa.Column("event_sequence", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["event_sequence"], ["ledger_event.sequence"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_sequence", "trigger"),
    )
    op.create_index("delivery_due", "delivery", ["state", "trigger", "due"], unique=False)
    op.create_table(
        "extension_service",
        sa.Column("extension_id", sa.String(), nullable=False),
        sa.Column("service_id", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("internal", sa.Boolean(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("version", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["extension_id"], ["extension.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("extension_id", "service_id"),
    )
    for field in (["resource"], ["category"], ["product"], []):
        name = f"extension_service_{field[0] if field else 'any'}"
        op.create_index(f"{name}_in_zone", "extension_service", [*field, "zone", "internal", "version", "extension_id"], unique=False)
        op.create_index(f"{name}_anywhere", "extension_service", [*field, "external", "version", "extension_id"], unique=False)
    op.create_table(
        "step_run",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("reused_from", sa.String(), nullable=True),
        sa.Column("cache_key", sa.String(), nullable=True),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("approval", sa.JSON(), nullable=True),
        sa.Column("archived", sa.String(), nullable=True),
        sa.Column("started", sa.String(), nullable=True),
        sa.Column("finished", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name"),
    )
    op.create_index(op.f("ix_step_run_cache_key"), "step_run", ["cache_key"], unique=False)
    op.create_index("step_run_archived", "step_run", ["archived", "state"], unique=False)
    op.create_table(
        "tracker_webhook",
        sa.Column("extension", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("extension"),
    )
    op.create_table(
        "former_secret",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("until", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index(op.f("ix_former_secret_owner"), "former_secret", ["owner"], unique=False)
    op.create_index(op.f("ix_former_secret_until"), "former_secret", ["until"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("extension", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("extension", "name", "version"),
    )
    op.create_table(
        "tracker_cursor",
        sa.Column("extension", sa.String(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("extension"),
    )
