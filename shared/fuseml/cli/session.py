"""From the command line to a connected client, and from a file to a request's document."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fuseml.cli.settings import CliSettings
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client.api import Client


def settings(context: typer.Context) -> CliSettings:
    """The settings that `main` put in, changed by the global flags."""
    found = context.find_object(CliSettings)
    return found or CliSettings()


def connect(context: typer.Context) -> Client:
    """A client for the configured server. Nothing is sent yet."""
    from fuseml.client import api

    chosen = settings(context)
    return api.Client(chosen.server_url(), chosen.access_token(), chosen.timeout)


def read(file: str) -> str:
    """A document's text; `-` is standard input. Raises NotFoundError, InvalidError."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except FileNotFoundError:
        raise errors.NotFoundError(f"there is no file {file}") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise errors.InvalidError(f"{file} is not a text file") from None


@contextlib.contextmanager
def blaming(file: str | None) -> Iterator[None]:
    """Problems that the server finds in a document sent inside are told with the name of its file."""
    try:
        yield
    except errors.InvalidError as error:
        if file:
            error.details["source"] = "standard input" if file == "-" else file
        raise
