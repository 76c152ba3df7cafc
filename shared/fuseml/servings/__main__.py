"""Writes FuseML's own record to the registry: `python -m fuseml.servings`, before the first function starts. The sweep repairs it later."""

from __future__ import annotations

import os

from fuseml.runtime.settings import Settings
from fuseml.servings import record
from fuseml.store import database


def main() -> None:
    """Register the record, where this installation serves applications."""
    settings = Settings.from_env(os.environ).require("database_url")
    if settings.serving_image:
        store = database.Database(settings.database_url)
        record.register(store, settings.function_url("applications"))
        store.close()


if __name__ == "__main__":
    main()
