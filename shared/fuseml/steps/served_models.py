"""The digest of a registered model, by the REST API of the tracking server where that serves the files itself, as `mlflow server` does by default.

Importing mlflow, which reads models from any place, costs seconds.
"""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Iterator

from fuseml.steps import model_digest, sdk, tracking

_DEEPEST = 50
"""Folders above a file of a model."""


def digest(server: tracking.Tracking, version: tracking.Version) -> str:
    """The digest of the files of the version. MLflow and its stores, which are asked where the server does not serve them, raise many types."""
    try:
        found = served(server, version)
    except sdk.StepError as error:
        # MLflow's client knows more ways, such as those of servers behind other servers, and repeats what failed.
        sdk.say(f"note: the files of {version.uri} are read by MLflow's client: {error}")
        found = None
    return found or model_digest.of_address(version.uri)


def served(server: tracking.Tracking, version: tracking.Version) -> str | None:
    """The digest of the files (`model_digest`); None where the server does not serve them. Raises StepError for what it serves wrongly."""
    place = urllib.parse.urlsplit(server.download_uri(version))
    root = place.path.strip("/")
    # MLflow leaves a quoted character to the server in one place and not in another.
    if place.scheme != "mlflow-artifacts" or place.netloc or place.query or "%" in root or not root:
        return None
    files = {path: _of_file(server, f"{root}/{path}") for path in _files(server, root, "", _DEEPEST)}
    return model_digest.of_digests(files) if files else None


def _files(server: tracking.Tracking, root: str, within: str, depth: int) -> Iterator[str]:
    """The paths of the files below `within`, relative to the root."""
    if not depth:
        raise sdk.StepError(f"the model has more than {_DEEPEST} folders in one another")
    for name, is_folder in server.served_files(f"{root}/{within}".rstrip("/")).items():
        if name in ("", ".", "..") or "/" in name:
            raise sdk.StepError(f"the model has a file that is called {name!r}")
        if is_folder:
            yield from _files(server, root, f"{within}{name}/", depth - 1)
        else:
            yield within + name


def _of_file(server: tracking.Tracking, path: str) -> bytes:
    found = hashlib.sha256()
    for block in server.served_file(path):
        found.update(block)
    return found.digest()
