"""`fuseml up`, `fuseml status` and `fuseml version`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from fuseml.cli import options, output, session
from fuseml.domain import errors

Home = Annotated[
    str, typer.Option("--home", metavar="DIR", help="Where the state is kept; else FUSEML_HOME, else your data folder.", show_default=False)
]

_COMPONENTS = (
    output.column("Component", "name"),
    output.column("Status", states=True),
    output.column("URL", "url"),
    output.column("Message", cut=True),
)


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="The port; 0 takes a free one.")] = 8000,
    home: Home = "",
    mlflow: Annotated[str, typer.Option("--mlflow", metavar="auto|none|URL", help="Run MLflow, do not, or use the one at URL.")] = "auto",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Let everybody on this machine in without a token.")] = False,
    faults: Annotated[
        str,
        typer.Option(
            "--chaos",
            metavar="KIND[=SHARE],...,seed=N",
            help="For tests: misbehave as brokers and git hosts may. Kinds: duplicate, reorder, delay, drop (loses webhooks and the engine's events).",
        ),
    ] = "",
) -> None:
    """Run a whole FuseML on this machine until Ctrl-C.

    API, git host, engine, broker, MLflow and model servers; the state survives restarts.
    """
    from fuseml.embedded import chaos, server

    known = session.settings(context)
    folder = dataclasses.replace(known, home=home or known.home).home_folder().resolve()
    wanted = server.Options(
        host=host,
        port=port,
        home=folder,
        mlflow=mlflow,
        anonymous=anonymous,
        environment=known.environment,
        chaos=chaos.parse(faults) if faults else chaos.NONE,
        log_format=known.log_format or "text",
        otlp_endpoint=known.otlp_endpoint,
    )
    raise typer.Exit(server.serve(wanted))


def status(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show whether the server is ready.

    With its components; exit code 1 if the server is not ready.
    """
    client = session.connect(context)
    readiness = client.readiness()
    if format is output.Format.TABLE:
        rows: list[dict[str, object]] = [{"name": "server", "status": readiness.get("status"), "url": client.url}]
        rows += [{"name": name, **component} for name, component in (readiness.get("components") or {}).items()]
        output.table(rows, _COMPONENTS)
    else:
        output.dump(format, readiness)
    if readiness.get("status") not in ("ok", "ready"):
        raise typer.Exit(1)


def version(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show the versions of this command and of the server."""
    import importlib.metadata

    versions: dict[str, object] = {"client": {"version": importlib.metadata.version("fuseml")}}
    try:
        versions["server"] = session.connect(context).version()
    except errors.TemporaryError:
        # Without a server the client's own version is still an answer.
        versions["server"] = None
    if format is not output.Format.TABLE:
        output.dump(format, versions)
        return
    columns = (
        output.Column("Client", lambda found: _version(found["client"])),
        output.Column("Server", lambda found: _version(found["server"])),
    )
    output.fields(versions, columns)


def _version(found: object) -> object:
    return found.get("version") if isinstance(found, dict) else "not reachable"
