"""`fuseml extension`: records of the registry. Their services, endpoints and credentials are in `extension_parts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import apply, discover, extension_parts, impact, options, output, records, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes

app = typer.Typer(help="Extensions: the registered tools that workflows use.", **options.GROUP)
app.add_typer(extension_parts.services, name="service")
app.add_typer(extension_parts.endpoints, name="endpoint")
app.add_typer(extension_parts.credentials, name="credentials")
app.command(epilog=options.examples("fuseml extension apply -f registry/", "fuseml extension apply -f registry/ --prune --dry-run"))(
    apply.apply
)
app.command(epilog=options.examples("fuseml extension discover", "fuseml extension discover http://minio.example:9000 --apply"))(
    discover.discover
)

Product = Annotated[str | None, options.option("--product", "-p", help="The product, such as mlflow.")]
Version = Annotated[str | None, options.option("--version", help="The product's version.")]
Zone = Annotated[str | None, options.option("--zone", "-z", help="Where it runs.")]


def _services(extension: options.Item) -> list[options.Item]:
    services = extension.get("services")
    return services if isinstance(services, list) else []


def _number(key: str) -> output.Column:
    return output.Column(key.title(), lambda extension: sum(len(_list(service, key)) for service in _services(extension)) or "")


def _list(service: options.Item, key: str) -> list[object]:
    items = service.get(key)
    return items if isinstance(items, list) else []


_COLUMNS = (
    output.column("ID", "id"),
    output.column("Product"),
    output.column("Version"),
    output.column("Zone"),
    output.Column(
        "Services", lambda extension: [service.get("resource") or service.get("id") for service in _services(extension)], cut=True
    ),
    _number("endpoints"),
    _number("credentials"),
)
_EXTENSION = (*_COLUMNS[:4], output.column("Description"), output.column("Configuration"), output.column("Revision"))


@app.command(
    epilog=options.examples(
        "fuseml extension register -f mlflow.yaml",
        "fuseml extension register --id s3 -p minio --version 4.1 -z east",
    )
)
def register(
    context: typer.Context,
    file: options.File = None,
    id: Annotated[str | None, options.option("--id", help="Its id; made up from the product when absent.")] = None,
    desc: options.OptionalDescription = None,
    product: Product = None,
    version: Version = None,
    zone: Zone = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register an extension.

    A whole record from a file, or a bare one from flags. In a file, secrets may
    stand as ${env:NAME} or ${file:PATH}.
    """
    if not (file or id or product):
        raise typer.BadParameter("give one of --file, --id and --product")
    fields = {"id": id, "description": desc, "product": product, "version": version, "zone": zone}
    with records.given(context, file, records.EXTENSION, **fields, configuration=options.pairs(configuration)) as document:
        extension = session.connect(context).extensions.register(document)
    output.done(format, extension, f'Extension "{extension["id"]}" successfully registered.')


@app.command(name="list", epilog=options.examples("fuseml extension list", "fuseml extension list -r s3 -c model-store"))
def list_(
    context: typer.Context,
    id: Annotated[str, options.option("--id", help="Only the one of this id.")] = "",
    product: Product = None,
    version: Annotated[str, options.option("--version", help="Only versions that fit, such as `>=1.10`.")] = "",
    zone: Zone = None,
    service_id: Annotated[str, options.option("--service-id", help="Only with a service of this id.")] = "",
    resource: Annotated[str, options.option("--service-resource", "-r", help="Only with such a service.")] = "",
    category: Annotated[str, options.option("--service-category", "-c", help="Only with such a service.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List extensions, or those that a selector would find."""
    selector: registry_shapes.Selector = {
        "extension_id": id,
        "product": product or "",
        "version": version,
        "zone": zone or "",
        "service_id": service_id,
        "service_resource": resource,
        "service_category": category,
    }
    found = session.connect(context).extensions.list(selector)
    output.listing(format, found, _COLUMNS, "There is no such extension; `fuseml extension register` makes one.")


@app.command(epilog=options.examples("fuseml extension get mlflow", "fuseml extension get mlflow -o yaml > mlflow.yaml"))
def get(context: typer.Context, extension: options.Extension, format: options.Output = output.Format.TABLE) -> None:
    """Show one extension with everything in its record."""
    found = session.connect(context).extensions.get(extension)
    output.record(format, found, _EXTENSION)
    if format is output.Format.TABLE:
        for service in _services(found):
            extension_parts.show_service(service)


@app.command(epilog=options.examples("fuseml extension update mlflow --version 3.2", "fuseml extension update mlflow -f mlflow.yaml"))
def update(
    context: typer.Context,
    extension: options.Extension,
    file: options.File = None,
    desc: options.OptionalDescription = None,
    product: Product = None,
    version: Version = None,
    zone: Zone = None,
    configuration: options.Configuration = None,
    revision: Annotated[int | None, options.option("--revision", help="Only if it still has this revision.")] = None,
    dry_run: options.DryRun = False,
    check: options.Check = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Change an extension: replace what is given, keep the rest."""
    extensions = session.connect(context).extensions
    fields = {"description": desc, "product": product, "version": version, "zone": zone}
    with records.given(context, file, records.EXTENSION, **fields, configuration=options.pairs(configuration)) as document:
        if not document:
            raise errors.InvalidError("nothing to change was given; see `fuseml extension update --help`")
        planned = extensions.plan_update(extension, document, revision)
        if dry_run or check:
            impact.report(planned, format, check=check)
            return
        changed = extensions.update(extension, document, revision)
    output.done(format, changed, f'Extension "{extension}" successfully updated.')
    impact.warn(planned)


@app.command(epilog=options.examples("fuseml extension webhook mlflow --register", "fuseml extension webhook mlflow --rotate --register"))
def webhook(
    context: typer.Context,
    extension: options.Extension,
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the secret that there is; it stays good for a day.")] = False,
    register: Annotated[bool, typer.Option("--register", help="Set the webhook up on the tracking server as well.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Make the webhook by which an MLflow tells of models.

    The secret is shown this once. MLflow takes URL and secret where its webhooks are made, or by --register, which needs
    credentials of an MLflow administrator in the record.
    """
    made = session.connect(context).extensions.webhook(extension, rotate=rotate, register=register)
    if format is not output.Format.TABLE:
        output.dump(format, made)
        return
    typer.echo(f"URL     {made['url']}\nSecret  {made['secret']}")
    if made.get("former_until"):
        typer.echo(f"The secret before is good until {made['former_until']}.")
    typer.echo("The tracking server was told." if made.get("registered") else "Set the webhook up on the tracking server now.")


@app.command(epilog=options.examples("fuseml extension delete mlflow", "fuseml extension delete mlflow --dry-run"))
def delete(
    context: typer.Context,
    extension: options.Extension,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    check: options.Check = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Delete an extension with everything in its record."""
    extensions = session.connect(context).extensions
    if dry_run or check:
        impact.report(extensions.plan_deletion(extension), format, check=check)
        return
    extensions.delete(extension, force=force)
    output.done(format, {}, f"Extension {extension} successfully deleted.")


@app.command(epilog=options.examples("fuseml extension plan -f mlflow.yaml", "fuseml extension plan -f mlflow.yaml --check"))
def plan(
    context: typer.Context,
    file: Annotated[str, options.option("--file", "-f", help="The record, YAML or JSON; `-` is standard input.", metavar="FILE")],
    check: Annotated[bool, typer.Option("--check", help="Fail if a selector would break.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show what a record would do to workflows.

    A new record is judged as if it were registered, one that is known as if it
    were updated. Nothing is changed.
    """
    with records.given(context, file, records.EXTENSION) as document:
        planned = session.connect(context).extensions.plan(document)
    impact.report(planned, format, check=check)
