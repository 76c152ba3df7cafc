"""Migrated databases for tests: copies of one, because a migration takes longer than most tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from fuseml.store import database


def on_sqlite(file: Path) -> database.Database:
    """The migrated database in the file, which is made if it is missing."""
    if not file.exists():
        file.write_bytes(_migrated())
    return database.Database(f"sqlite:///{file}")


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fuseml.db"
        store = database.Database(f"sqlite:///{file}")
        store.migrate()
        # The last connection moves everything from the write-ahead log into the file.
        store.close()
        return file.read_bytes()
