"""`fuseml secrets`."""

from __future__ import annotations

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="Secrets: keys that seal them in the database.", **options.GROUP)


@app.callback()
def secrets() -> None:
    """Secrets: keys that seal them in the database."""


@app.command(epilog=options.examples("fuseml secrets rotate"))
def rotate(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Seal all secrets again with the newest key.

    A server started by `fuseml up` creates a new key first. On a cluster, prepend a new key to FUSEML_SECRET_KEYS of every function,
    keep the old keys, and run this command when all functions have the new key. After an interruption, run it again.
    """
    result = session.connect(context).extensions.rotate_secrets()
    if format is not output.Format.TABLE:
        output.dump(format, result)
        return
    terminal.echo(f"Sealed {result['credentials']} credentials values and {result['webhook_secrets']} webhook secrets with the newest key.")
    for name in result["unreadable"]:
        terminal.echo(f"No key opens the secrets of {name}: enter them again, or add the key that sealed them.", err=True)
    if result["unreadable"]:
        raise typer.Exit(1)
