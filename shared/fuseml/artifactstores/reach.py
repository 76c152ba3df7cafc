"""The reach of stores that are folders of one machine: each has a mark, so that an equal path of another machine is not taken for it."""

from __future__ import annotations

import secrets
import urllib.parse
from pathlib import Path

from fuseml import artifactstores
from fuseml.domain import errors

VARIABLE = "FUSEML_STORE_MARK"
"""The variable of a record with the mark of its folder."""

_FILE = ".mark"


def mark(folder: Path) -> str:
    """Make the folder, and return its mark, which stays the same."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _FILE
    if not path.exists():
        partial = folder / f".mark.{secrets.token_hex(8)}"
        partial.write_text(secrets.token_hex(16))
        partial.replace(path)
    return path.read_text().strip()


def check(connection: artifactstores.Connection) -> None:
    """Raises PermanentError for the marked folder of another machine."""
    expected = connection.environment.get(VARIABLE)
    if not expected or not connection.url.startswith("file://"):
        return
    folder = Path(urllib.parse.unquote(urllib.parse.urlsplit(connection.url).path))
    try:
        found = (folder / _FILE).read_text().strip()
    except OSError:
        found = ""
    if found != expected:
        raise errors.PermanentError(
            f"the artifact store {folder} is a folder on the machine of the server, and this is another machine; "
            "register a store that both reach, such as a bucket (docs/artifact-stores.md)"
        )
