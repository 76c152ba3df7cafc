"""The client and the documents that a command line names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fuseml.cli import terminal
from fuseml.cli.settings import CliSettings
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client.api import Client


def settings(context: typer.Context) -> CliSettings:
    """The settings of the command line: environment and global flags."""
    return context.find_object(CliSettings) or CliSettings()


def connect(context: typer.Context) -> Client:
    """A client of the configured server. Sends no request."""
    from fuseml.client import api

    given = settings(context)
    trace = (lambda line: terminal.echo(line, err=True)) if given.verbose else None
    return api.Client(given.server_url(), given.access_token(), given.timeout, trace)


def secret(value: str) -> str:
    """A secret of the command line; `-` reads the first line of standard input, so that it stays out of lists of processes."""
    return sys.stdin.readline().strip() if value == "-" else value


def read(file: str) -> str:
    """The text of a file; `-` is standard input. Raises NotFoundError, InvalidError when it is not a text file."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except FileNotFoundError:
        raise errors.NotFoundError(f"there is no file {file}") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise errors.InvalidError(f"{file} is not a text file") from None


@contextlib.contextmanager
def naming_source(file: str | None) -> Iterator[None]:
    """Add the file's name to an InvalidError that is raised inside: the server does not know it."""
    try:
        yield
    except errors.InvalidError as error:
        if file:
            error.details["source"] = "standard input" if file == "-" else file
        raise
