"""A measurement on SQLite, and on PostgreSQL where its programs are installed."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

from tests import postgresql


def each(measure: Callable[[str, str], None]) -> None:
    """Call `measure` with the name and the URL of an empty database of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{pathlib.Path(folder) / 'fuseml.db'}")
    programs = postgresql.programs()
    if programs is None:
        print("PostgreSQL: its programs are not installed")
        return
    server = postgresql.Server(programs)
    server.start()
    try:
        measure("PostgreSQL", server.fresh())
    finally:
        server.close()
