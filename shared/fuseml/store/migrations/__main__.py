"""Brings the database at FUSEML_DATABASE_URL up to date: `python -m fuseml.store.migrations`. The migration Job of a cluster runs it."""

from __future__ import annotations

import os
import sys

from fuseml.domain import errors
from fuseml.runtime import wiring
from fuseml.runtime.settings import Settings


def main() -> int:
    """The exit code: 0 when the schema is the newest."""
    try:
        wiring.store(Settings.from_env(os.environ)).migrate()
    except errors.FusemlError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
