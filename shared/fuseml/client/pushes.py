"""Pushes of folders and public repositories to codesets, with the credentials of the registration or of the settings."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fuseml.client import git
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client
    from fuseml.client.settings import ClientSettings


def push(client: Client, given: ClientSettings, location: str, *, project: str, name: str, message: str = "") -> git.PushResult:
    """Push the files of a folder, or of a public repository at a URL, as a new codeset version; equal files push nothing.

    Registers the codeset and its project if they do not exist, once the source can be read. Raises InvalidError without files.
    """
    with source(given, location) as folder:
        return send(given, client.codesets.register(project, name), folder, location, message)


def send(given: ClientSettings, registration: shapes.Registration, folder: Path, location: str, message: str = "") -> git.PushResult:
    """Push the files of the folder, the `source` of `location`, to a registered codeset."""
    user = registration.get("username") or given.push_user or "fuseml"
    password = registration.get("password") or given.push_password or given.access_token() or ""
    remote = git.Remote(registration["codeset"]["url"], user, password, given.environment)
    return remote.push_folder(folder, message or f"New codeset update from {location}")


@contextlib.contextmanager
def source(given: ClientSettings, location: str) -> Iterator[Path]:
    """The folder of a location, which may be the URL of a repository. Raises InvalidError, NotFoundError."""
    if not urlsplit(location).netloc:
        folder = Path(location).resolve()
        if not folder.is_dir():
            raise errors.InvalidError(f"{folder} is not a folder")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fuseml-source-") as scratch:
        cloned = Path(scratch) / "source"
        git.clone_source(location, cloned, given.environment)
        yield cloned
