"""All tables together, for what makes or compares a whole schema."""

from __future__ import annotations

import sqlmodel

from fuseml.store.tables import (  # noqa: F401 - a table is known by its module having been imported
    application_rows,
    artifact_rows,
    codeset_rows,
    decision_rows,
    extension_rows,
    ledger_rows,
    milestone_rows,
    model_rows,
    outbox_rows,
    run_rows,
    webhook_rows,
    workflow_rows,
)

metadata = sqlmodel.SQLModel.metadata
