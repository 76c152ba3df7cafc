"""Alembic's entry point: it runs on the connection of `migrations.upgrade` (or of a test)."""

from __future__ import annotations

from alembic import context

from fuseml.store.tables import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
