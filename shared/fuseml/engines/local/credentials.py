"""Secrets that a step gets as files: in a folder of the step's own, readable only (mode 0400), from its start to its end."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from fuseml.domain import plans
from fuseml.engines import step_files

_LOG = logging.getLogger(__name__)


def write(folder: Path, parts: Iterable[plans.SecretPart], secrets: Mapping[str, str]) -> None:
    """Write the files below `folder`, in place of those of a former attempt. Raises OSError."""
    remove(folder)
    for part in parts:
        path = folder / part.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with step_files.create(path, 0o400) as file:
            file.write(secrets[part.ref].encode(errors="surrogatepass"))


def remove(folder: Path) -> None:
    """Delete the folder, if there is one. A link in its place is not followed. Logs why if something remains; the end of the run tries again."""
    if not os.path.lexists(folder):
        return
    try:
        # Deleted at once, not put aside: these are secrets.
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        _LOG.warning("the files of credentials in %s could not be removed: %s", folder, error)
