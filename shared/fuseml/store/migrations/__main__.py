"""Migrates the database at FUSEML_DATABASE_URL: `python -m fuseml.store.migrations`, as the migration Job of a cluster runs it."""

from __future__ import annotations

import os
import sys

from fuseml.domain import errors
from fuseml.runtime.settings import Settings
from fuseml.store import database


def main() -> int:
    """The exit code: 0 when the schema is the newest."""
    try:
        database.Database(Settings.from_env(os.environ).require("database_url").database_url).migrate()
    except errors.FusemlError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
