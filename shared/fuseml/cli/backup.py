"""`fuseml backup` and `fuseml restore`: the state of the server on this machine as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuseml.cli import session, terminal


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; only you can read it.", show_default=False)],
) -> None:
    """Save the state of the server on this machine to a file. The server may run meanwhile.

    The file holds the database, keys and token, git repositories, runs with their logs, and MLflow with its models. It opens every secret
    of this server: keep it as safe as the server itself.
    """
    from fuseml.embedded import backup

    summary = backup.save(_folder(context), file.absolute())
    terminal.echo(f"Saved {summary.files} files ({summary.bytes / 1e6:.1f} MB) in {file}.")
    for name, content in backup.EXCLUDED.items():
        terminal.echo(f"Not in the backup: {name}, {content}")


def restore(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A file of `fuseml backup`.", show_default=False)
    ],
    force: Annotated[bool, typer.Option("--force", help="Move a home that is not empty aside.")] = False,
) -> None:
    """Restore the state of the server on this machine from a file.

    The whole file is verified before anything changes. Then `fuseml up` starts the server with it.
    """
    from fuseml.embedded import backup

    folder = _folder(context)
    summary, former = backup.restore(file.absolute(), folder, force=force)
    terminal.echo(f"Restored {summary.files} files ({summary.bytes / 1e6:.1f} MB) to {folder}.")
    if former is not None:
        terminal.echo(f"The former content is in {former}.")


def _folder(context: typer.Context) -> Path:
    return session.settings(context).home_folder().absolute()
