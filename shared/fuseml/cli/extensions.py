"""`fuseml extension`: extensions of the registry. The commands of their parts are in `extension_parts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import apply, discover, extension_parts, impact, options, output, records, session, terminal, tools
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes

app = typer.Typer(help="Extensions: registered tools that workflows use.", **options.GROUP)
app.add_typer(extension_parts.services, name="service")
app.add_typer(extension_parts.endpoints, name="endpoint")
app.add_typer(extension_parts.credentials, name="credentials")
app.command(epilog=options.examples("fuseml extension apply -f registry/", "fuseml extension apply -f registry/ --prune --dry-run"))(
    apply.apply
)
app.command(
    epilog=options.examples(
        "fuseml extension discover", "fuseml extension discover http://minio.example:9000 --apply", "fuseml extension discover --cluster"
    )
)(discover.discover)

app.command(no_args_is_help=True, epilog=options.examples("fuseml extension install mlflow", "fuseml extension install ./feast --dry-run"))(
    tools.install
)
app.command(
    no_args_is_help=True,
    epilog=options.examples("fuseml extension uninstall mlflow --dry-run", "fuseml extension uninstall kserve --with-requirements"),
)(tools.uninstall)

Product = Annotated[str | None, options.option("--product", help="Product, such as mlflow.")]
Version = Annotated[str | None, options.option("--version", help="Version of the product.")]
Zone = Annotated[str | None, options.option("--zone", "-z", help="Zone that the tool runs in.")]


def _services(extension: options.Item) -> list[options.Item]:
    services = extension.get("services")
    return services if isinstance(services, list) else []


def _number(key: str) -> output.Column:
    return output.Column(key.title(), lambda extension: sum(len(_list(service, key)) for service in _services(extension)) or "", minor=True)


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
        "fuseml extension register --id s3 --product minio --version 4.1 -z east",
    )
)
def register(
    context: typer.Context,
    file: options.File = None,
    id: Annotated[str | None, options.option("--id", help="Id; derived from the product by default.")] = None,
    desc: options.OptionalDescription = None,
    product: Product = None,
    version: Version = None,
    zone: Zone = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register an extension.

    From a file with the whole record, or from flags without services. A file
    may refer to secrets as ${env:NAME} or ${file:PATH}.
    """
    if not (file or id or product):
        raise typer.BadParameter("give one of --file, --id and --product")
    fields = {"id": id, "description": desc, "product": product, "version": version, "zone": zone}
    with records.request_document(context, file, records.EXTENSION, **fields, configuration=options.pairs(configuration)) as document:
        extension = session.connect(context).extensions.register(document)
    output.done(format, extension, f'Extension "{extension["id"]}" successfully registered.')


@app.command(name="list", epilog=options.examples("fuseml extension list", "fuseml extension list -r s3 --service-category model-store"))
def list_(
    context: typer.Context,
    id: Annotated[str, options.option("--id", help="Only the extension of this id.")] = "",
    product: Product = None,
    version: Annotated[str, options.option("--version", help="Version constraint, such as `>=1.10`.")] = "",
    zone: Zone = None,
    service_id: Annotated[str, options.option("--service-id", help="Only with a service of this id.")] = "",
    resource: Annotated[str, options.option("--service-resource", "-r", help="Only with a service of this resource.")] = "",
    category: Annotated[str, options.option("--service-category", help="Only with a service of this category.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List extensions, or those that match a selector."""
    selector: registry_shapes.Selector = {
        "extension_id": id,
        "product": product or "",
        "version": version,
        "zone": zone or "",
        "service_id": service_id,
        "service_resource": resource,
        "service_category": category,
    }
    extensions = session.connect(context).extensions.list(selector)
    output.listing(format, extensions, _COLUMNS, "There is no matching extension; `fuseml extension register` creates one.")


@app.command(epilog=options.examples("fuseml extension get mlflow", "fuseml extension get mlflow -o yaml > mlflow.yaml"))
def get(context: typer.Context, extension: options.Extension, format: options.Output = output.Format.TABLE) -> None:
    """Show one extension with all its parts."""
    record = session.connect(context).extensions.get(extension)
    output.record(format, record, _EXTENSION)
    if format is output.Format.TABLE:
        for service in _services(record):
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
    revision: Annotated[int | None, options.option("--revision", help="Update only this revision of the record.")] = None,
    dry_run: options.DryRun = False,
    check: options.Check = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Change the given fields of an extension.

    A list in a file (services, endpoints, credentials) replaces the stored
    one; fields that the file lacks are kept. Assigned steps that will bind to
    something else are listed.
    """
    extensions = session.connect(context).extensions
    fields = {"description": desc, "product": product, "version": version, "zone": zone}
    with records.request_document(context, file, records.EXTENSION, **fields, configuration=options.pairs(configuration)) as document:
        if not document:
            raise errors.InvalidError("no change is given; see `fuseml extension update --help`")
        plan = extensions.plan_update(extension, document, revision, replace_lists=True)
        if dry_run or check:
            impact.report(plan, format, check=check)
            return
        changed = extensions.update(extension, document, revision, replace_lists=True)
    output.done(format, changed, f'Extension "{extension}" successfully updated.')
    impact.warn(plan)


@app.command(epilog=options.examples("fuseml extension webhook mlflow --register", "fuseml extension webhook mlflow --rotate --register"))
def webhook(
    context: typer.Context,
    extension: options.Extension,
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the secret; the old one stays valid for a day.")] = False,
    register: Annotated[bool, typer.Option("--register", help="Also set the webhook up on the tracking server.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Create the webhook for model events of an MLflow.

    The secret is shown only once. Set URL and secret up in MLflow, or pass --register, which needs credentials of an MLflow
    administrator in the record.
    """
    webhook = session.connect(context).extensions.webhook(extension, rotate=rotate, register=register)
    if format is not output.Format.TABLE:
        output.dump(format, webhook)
        return
    terminal.echo(f"URL     {webhook['url']}\nSecret  {webhook['secret']}")
    if webhook.get("former_until"):
        terminal.echo(f"The old secret is valid until {webhook['former_until']}.")
    terminal.echo(
        "The webhook is set up on the tracking server." if webhook.get("registered") else "Set the webhook up on the tracking server now."
    )


@app.command(epilog=options.examples("fuseml extension delete mlflow", "fuseml extension delete mlflow --dry-run"))
def delete(
    context: typer.Context,
    extension: options.Extension,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    check: options.Check = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Delete an extension with all its parts.

    Assigned steps that will bind to something else are listed.
    """
    extensions = session.connect(context).extensions
    plan = extensions.plan_deletion(extension)
    if dry_run or check:
        impact.report(plan, format, check=check)
        return
    extensions.delete(extension, force=force)
    output.done(format, {}, f"Extension {extension} successfully deleted.")
    impact.warn(plan)


@app.command(epilog=options.examples("fuseml extension plan -f mlflow.yaml", "fuseml extension plan -f mlflow.yaml --check"))
def plan(
    context: typer.Context,
    file: Annotated[str, options.option("--file", "-f", help="Record, YAML or JSON; `-` is standard input.", metavar="FILE")],
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if a selector would break.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the impact of a record on workflows.

    The impact of registering a new record, or of updating an existing one.
    Nothing is changed.
    """
    with records.request_document(context, file, records.EXTENSION) as document:
        impacts = session.connect(context).extensions.plan(document)
    impact.report(impacts, format, check=check)
