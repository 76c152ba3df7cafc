"""Alembic's entry: it runs on the connection that `migrations.upgrade` (or a test) hands over."""

from __future__ import annotations

from alembic import context

from fuseml.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
