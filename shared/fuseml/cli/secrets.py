"""`fuseml secrets`."""

from __future__ import annotations

import typer

from fuseml.cli import options, output, session

app = typer.Typer(help="Secrets: the keys that seal them in the database.", **options.GROUP)


@app.callback()
def secrets() -> None:
    """Secrets: the keys that seal them in the database."""


@app.command(epilog=options.examples("fuseml secrets rotate"))
def rotate(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Seal all secrets anew with the newest key.

    A server started by `fuseml up` makes a fresh key first. Elsewhere, put one in front of FUSEML_SECRET_KEYS of every function, keep
    the old ones behind it, and call this once all functions have it. Interrupted, call it again.
    """
    rotated = session.connect(context).extensions.rotate_secrets()
    if format is not output.Format.TABLE:
        output.dump(format, rotated)
        return
    typer.echo(f"Sealed {rotated['credentials']} credentials values and {rotated['webhook_secrets']} webhook secrets with the newest key.")
    for name in rotated["unreadable"]:
        typer.echo(f"No key opens the secrets of {name}: give them again, or add the key that sealed them.", err=True)
    if rotated["unreadable"]:
        raise typer.Exit(1)
