"""All tables together, for the creation and the comparison of a whole schema."""

from __future__ import annotations

import sqlmodel

from fuseml.store.tables import (
    application_rows,
    artifact_rows,
    codeset_rows,
    decision_rows,
    export_rows,
    extension_rows,
    ledger_rows,
    model_rows,
    origin_rows,
    outbox_rows,
    retention_rows,
    run_rows,
    runnable_rows,
    source_rows,
    watermark_rows,
    webhook_rows,
    workflow_rows,
)

MODULES = (
    application_rows,
    artifact_rows,
    codeset_rows,
    decision_rows,
    export_rows,
    extension_rows,
    ledger_rows,
    model_rows,
    origin_rows,
    outbox_rows,
    retention_rows,
    run_rows,
    runnable_rows,
    source_rows,
    watermark_rows,
    webhook_rows,
    workflow_rows,
)
"""The import of a module adds its tables to `metadata`."""

metadata = sqlmodel.SQLModel.metadata
