"""Column types and options that the tables share."""

from __future__ import annotations

import sqlalchemy
import sqlmodel

# Without this, SQLite reuses the number of a deleted newest row.
NEVER_REUSED = {"sqlite_autoincrement": True}


class Row(sqlmodel.SQLModel):
    """The parent of all rows. Its validators are built at their first use: stored data was validated before, so most processes need none."""

    model_config = {"defer_build": True}


class Json(sqlalchemy.JSON):
    """Plain data, stored as a document by PostgreSQL and SQLite both. None is the database's NULL, not the JSON text `null`."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)
