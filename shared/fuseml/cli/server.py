"""`fuseml up`, `fuseml status` and `fuseml version`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.cli.settings import CliSettings
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.plugins import Seam

_COMPONENTS = (
    output.column("Component", "name"),
    output.column("Status", states=True),
    output.column("URL", "url"),
    output.column("Message", cut=True),
)


_SEAMS = ("fuseml.artifactstores", "fuseml.engines", "fuseml.githosts", "fuseml.probes", "fuseml.servings", "fuseml.workloads")
"""The packages that are seams. Each has its plugins as `PLUGINS`, in a group of its own name."""

_PLUGINS = (
    output.column("Seam"),
    output.column("Name"),
    output.Column("Package", lambda item: f"{item['package']} {item['version']}"),
    output.column("Contract"),
    output.Column("Problem", output.field("problem"), fold=True),
)


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="Port; 0 selects a free one.")] = 8000,
    mlflow: Annotated[str, typer.Option("--mlflow", metavar="auto|none|URL", help="Run MLflow, run none, or use the one at URL.")] = "auto",
    public_url: Annotated[
        list[str] | None,
        typer.Option("--public-url", metavar="URL", help="Another address of the server, e.g. of a proxy; repeatable.", show_default=False),
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Accept requests without a token.")] = False,
    paths: Annotated[
        list[str] | None,
        typer.Option("--allow-path", metavar="DIR[:rw]", help="Let steps read DIR, or also write to it; repeatable.", show_default=False),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--pass-env",
            metavar="NAME",
            help="Pass this variable on to steps beside the usual ones; a pattern such as 'WANDB_*'; repeatable.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(
            "--devices",
            metavar="KIND=ID,...|shared",
            help="Hand out these devices to steps, instead of all: nvidia.com/gpu=0,1; nothing after = for none; repeatable. "
            "shared: hand out none, and let every step use all.",
            show_default=False,
        ),
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            "--chaos",
            metavar="KIND[=SHARE],...,seed=N",
            help="For tests: inject faults of brokers and git hosts. "
            "Kinds: duplicate, reorder, delay, drop (loses webhooks and events of the engine).",
        ),
    ] = "",
) -> None:
    """Run all of FuseML on this machine until Ctrl-C.

    Includes API, git host, engine, broker, MLflow and model servers. The state survives restarts.
    """
    from fuseml.steps import loading

    with loading.kept():
        from fuseml.embedded import chaos, server, step_options
        from fuseml.runtime.telemetry import logs

    settings = session.settings(context)
    folder = settings.home_folder().absolute()
    server_options = server.Options(
        host=host,
        port=port,
        home=folder,
        mlflow=mlflow,
        anonymous=anonymous,
        public_urls=[url for url in (*(public_url or ()), settings.public_url) if url],
        environment=settings.environment,
        chaos=chaos.parse(faults) if faults else chaos.NONE,
        log_format=settings.log_format or "text",
        rotation=logs.Rotation(settings.log_megabytes << 20, settings.log_files),
        is_default_home=folder == CliSettings().home_folder().absolute(),
        otlp_endpoint=settings.otlp_endpoint,
        steps=step_options.parse(
            paths=[*settings.step_paths, *(paths or ())],
            variables=[*settings.step_variables, *(variables or ())],
            log=settings.step_log_limit,
            disk=settings.step_disk_limit,
            confinement=settings.step_confinement,
            devices=devices or settings.devices,
        ),
    )
    raise typer.Exit(server.serve(server_options))


def status(
    context: typer.Context,
    cluster: Annotated[bool, typer.Option("--cluster", help="Of FuseML on the cluster of your kubeconfig.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the readiness of the server and its components.

    Exit code 1 if the server is not ready.
    """
    if cluster:
        from fuseml.cli import deployment

        deployment.status(format)
        return
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


def print_version(value: bool) -> None:  # the signature of a callback
    """Print the version of this command, and end, if the option is given."""
    if value:
        import importlib.metadata

        terminal.echo(f"fuseml {importlib.metadata.version('fuseml')}")
        raise typer.Exit


def version(
    context: typer.Context,
    plugins: Annotated[bool, typer.Option("--plugins", help="Also list the plugins of this command's installation.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the versions of this command and of the server.

    With --plugins, exit code 1 if a plugin cannot be used.
    """
    import importlib.metadata

    versions: dict[str, object] = {"client": {"version": importlib.metadata.version("fuseml")}}
    try:
        versions["server"] = session.connect(context).version()
    except errors.TemporaryError:
        # The client's own version is a result without a server, too.
        versions["server"] = None
    listed = _plugins() if plugins else []
    if plugins:
        versions["plugins"] = listed
    if format is not output.Format.TABLE:
        output.dump(format, versions)
    else:
        columns = (
            output.Column("Client", lambda item: _version(item["client"])),
            output.Column("Server", lambda item: _version(item["server"])),
        )
        output.print_fields(versions, columns)
        if listed:
            terminal.echo("\nPlugins:")
            output.table(listed, _PLUGINS, indent=2)
        elif plugins:
            terminal.echo("There is no plugin; a package that is installed beside FuseML brings one.", err=True)
    if any(item["problem"] for item in listed):
        raise typer.Exit(1)


def _plugins() -> list[dict[str, object]]:
    """The plugins of all seams, loaded, each with its problem."""
    import importlib

    seams: list[Seam[object]] = [importlib.import_module(group).PLUGINS for group in _SEAMS]
    return [{**dataclasses.asdict(item), "contract": seam.contract} for seam in seams for item in seam.listed()]


def _version(build: object) -> object:
    return build.get("version") if isinstance(build, dict) else "not reachable"
