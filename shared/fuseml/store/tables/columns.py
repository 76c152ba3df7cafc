"""What the tables are declared with."""

from __future__ import annotations

import sqlalchemy
import sqlmodel

# Without this, SQLite gives the number of the newest row again once that row is deleted.
NEVER_REUSED = {"sqlite_autoincrement": True}


class Row(sqlmodel.SQLModel):
    """The parent of all rows. What is stored was checked before, so their validators are hardly ever wanted and made only then."""

    model_config = {"defer_build": True}


class Json(sqlalchemy.JSON):
    """Plain data, stored as a document by PostgreSQL and SQLite both. None is the database's NULL, not the JSON text `null`."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)
