"""The artifact store of the embedded server: a folder of its home, for projects that have no other store.

Steps cannot reach it. The programs that fetch and collect their artifacts can, and commands of this machine.
"""

from __future__ import annotations

import pathlib

from fuseml import artifactstores
from fuseml.artifactstores import reach


def service(folder: pathlib.Path) -> dict[str, object]:
    """Make the folder, and return its service for the record of this server."""
    configuration = {reach.VARIABLE: reach.mark(folder)}
    return {
        "id": "artifacts",
        "resource": "folder",
        "category": artifactstores.CATEGORY,
        "endpoints": [{"url": folder.as_uri(), "type": "internal", "configuration": configuration}],
    }
