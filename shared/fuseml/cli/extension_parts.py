"""`fuseml extension service|endpoint|credentials`: the parts of a record, each with add, update, list and delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from fuseml.cli import options, output, records, session

services = typer.Typer(help="The services of an extension: its APIs and UIs.", **options.GROUP)
endpoints = typer.Typer(help="The endpoints of a service: its URLs.", **options.GROUP)
credentials = typer.Typer(help="The credentials of a service; their values are never shown.", **options.GROUP)

Service = Annotated[str, typer.Argument(help="The service's id.", metavar="SERVICE", show_default=False)]
Url = Annotated[str, typer.Argument(help="The endpoint's URL.", metavar="URL", show_default=False)]
CredentialsId = Annotated[str, typer.Argument(help="The credentials' id.", metavar="CREDENTIALS", show_default=False)]
Resource = Annotated[str | None, options.option("--resource", "-r", help="The protocol, such as s3 or mlflow-tracking.")]
Category = Annotated[str | None, options.option("--category", "-c", help="The purpose, such as model-store.")]
NewId = Annotated[str | None, options.option("--id", help="Its id; made up when absent.")]
AuthRequired = Annotated[
    bool | None, typer.Option("--auth-required/--no-auth-required", help="Whether it needs credentials.", show_default=False)
]
# -c is the category here, as in the original.
ServiceConfiguration = Annotated[
    list[str] | None,
    options.option("--configuration", metavar="KEY=VALUE", help="A configuration entry; may be repeated."),
]
Scope = Annotated[str | None, options.option("--scope", help="global, project or user.")]
Projects = Annotated[list[str] | None, options.option("--project", "--proj", help="For this project; may be repeated.")]
Users = Annotated[list[str] | None, options.option("--user", help="For this user; may be repeated.")]
Default = Annotated[bool | None, typer.Option("--default/--no-default", help="Prefer it among equals.", show_default=False)]
EndpointType = Annotated[str | None, options.option("--type", help="internal or external.")]


def _keys(item: options.Item) -> object:
    configuration = item.get("configuration")
    return list(configuration) if isinstance(configuration, dict) else None


def _of_health(key: str) -> Callable[[options.Item], object]:
    def read(item: options.Item) -> object:
        status = item.get("status")
        health = status.get("health") if isinstance(status, dict) else None
        return health.get(key) if isinstance(health, dict) else None

    return read


def _seen(item: options.Item) -> object:
    age = output.age(_of_health("seen")(item))
    return f"{age} ago" if age else ""


_HEALTH = (
    output.Column("Health", _of_health("state"), states=True),
    output.Column("Seen", _seen),
    output.Column("Trouble", _of_health("cause"), cut=True),
)
_SERVICES = (
    output.column("ID", "id"),
    output.column("Resource"),
    output.column("Category"),
    output.column("Auth required", "auth_required"),
    output.column("Configuration", cut=True),
)
_ENDPOINTS = (output.column("URL", "url"), output.column("Type"), output.column("Configuration", cut=True), *_HEALTH)
_CREDENTIALS = (
    output.column("ID", "id"),
    output.column("Scope"),
    output.column("Default"),
    output.column("Projects", cut=True),
    output.column("Users", cut=True),
    output.Column("Keys", _keys, cut=True),
    *_HEALTH,
)


def show_service(service: options.Item) -> None:
    """One service of a record, as a section."""
    typer.echo(f"\nService {service.get('id')}:")
    output.fields(service, (*_SERVICES[1:4], output.column("Description"), output.column("Configuration")))
    for title, key, columns in (("Endpoints", "endpoints", _ENDPOINTS), ("Credentials", "credentials", _CREDENTIALS)):
        items = service.get(key)
        if isinstance(items, list) and items:
            typer.echo(f"{title}:")
            output.table(items, columns, indent=2)


@services.command(name="add", epilog=options.examples("fuseml extension service add mlflow --id tracking -r mlflow-tracking"))
def add_service(
    context: typer.Context,
    extension: options.Extension,
    file: options.File = None,
    id: NewId = None,
    desc: options.OptionalDescription = None,
    resource: Resource = None,
    category: Category = None,
    auth_required: AuthRequired = None,
    configuration: ServiceConfiguration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Add a service to an extension."""
    fields = {
        "id": id,
        "description": desc,
        "resource": resource,
        "category": category,
        "auth_required": auth_required,
        "configuration": options.pairs(configuration),
    }
    with records.given(context, file, records.SERVICE, **fields) as document:
        added = session.connect(context).extensions.services(extension).add(document)
    output.done(format, added, f'Service "{added["id"]}" successfully added to extension "{extension}".')


@services.command(name="update", epilog=options.examples("fuseml extension service update mlflow tracking --auth-required"))
def update_service(
    context: typer.Context,
    extension: options.Extension,
    service: Service,
    file: options.File = None,
    desc: options.OptionalDescription = None,
    resource: Resource = None,
    category: Category = None,
    auth_required: AuthRequired = None,
    configuration: ServiceConfiguration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Change a service: replace what is given, keep the rest."""
    fields = {
        "description": desc,
        "resource": resource,
        "category": category,
        "auth_required": auth_required,
        "configuration": options.pairs(configuration),
    }
    with records.given(context, file, records.SERVICE, **fields) as document:
        changed = session.connect(context).extensions.services(extension).update(service, document)
    output.done(format, changed, f'Service "{service}" from extension "{extension}" successfully updated.')


@services.command(name="list", epilog=options.examples("fuseml extension service list mlflow"))
def list_services(context: typer.Context, extension: options.Extension, format: options.Output = output.Format.TABLE) -> None:
    """List the services of an extension."""
    found = session.connect(context).extensions.services(extension).list()
    output.listing(format, found, _SERVICES, "It has no services; `fuseml extension service add` adds one.")


@services.command(name="delete", epilog=options.examples("fuseml extension service delete mlflow tracking"))
def delete_service(context: typer.Context, extension: options.Extension, service: Service, force: options.Force = False) -> None:
    """Delete a service with its endpoints and credentials."""
    session.connect(context).extensions.services(extension).delete(service, force=force)
    typer.echo(f'Service "{service}" successfully deleted from extension "{extension}".')


@endpoints.command(name="add", epilog=options.examples("fuseml extension endpoint add mlflow tracking http://mlflow --type internal"))
def add_endpoint(
    context: typer.Context,
    extension: options.Extension,
    service: Service,
    url: Url,
    type: EndpointType = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Add an endpoint to a service."""
    document = options.document(None, url=url, type=type, configuration=options.pairs(configuration))
    added = session.connect(context).extensions.endpoints(extension, service).add(document)
    output.done(format, added, f'Endpoint "{url}" successfully added to service "{service}" from extension "{extension}".')


@endpoints.command(name="update", epilog=options.examples("fuseml extension endpoint update mlflow tracking http://mlflow -c KEY=value"))
def update_endpoint(
    context: typer.Context,
    extension: options.Extension,
    service: Service,
    url: Url,
    type: EndpointType = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Change an endpoint: replace what is given, keep the rest."""
    document = options.document(None, type=type, configuration=options.pairs(configuration))
    changed = session.connect(context).extensions.endpoints(extension, service).update(url, document)
    output.done(format, changed, f'Endpoint "{url}" of service "{service}" from extension "{extension}" successfully updated.')


@endpoints.command(name="list", epilog=options.examples("fuseml extension endpoint list mlflow tracking"))
def list_endpoints(
    context: typer.Context, extension: options.Extension, service: Service, format: options.Output = output.Format.TABLE
) -> None:
    """List the endpoints of a service."""
    found = session.connect(context).extensions.endpoints(extension, service).list()
    output.listing(format, found, _ENDPOINTS, "It has no endpoints; `fuseml extension endpoint add` adds one.")


@endpoints.command(name="delete", epilog=options.examples("fuseml extension endpoint delete mlflow tracking http://mlflow"))
def delete_endpoint(context: typer.Context, extension: options.Extension, service: Service, url: Url, force: options.Force = False) -> None:
    """Delete an endpoint."""
    session.connect(context).extensions.endpoints(extension, service).delete(url, force=force)
    typer.echo(f'Endpoint "{url}" successfully deleted from service "{service}" from extension "{extension}".')


@credentials.command(
    name="add",
    epilog=options.examples(
        "fuseml extension credentials add minio s3 -f credentials.yaml",
        "fuseml extension credentials add minio s3 --id ci -c AWS_ACCESS_KEY_ID=...",
    ),
)
def add_credentials(
    context: typer.Context,
    extension: options.Extension,
    service: Service,
    file: options.File = None,
    id: NewId = None,
    scope: Scope = None,
    project: Projects = None,
    user: Users = None,
    default: Default = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Add credentials to a service.

    From a file, so that secrets stay out of the process list and the shell's
    history; the file may name them as ${env:NAME} or ${file:PATH}.
    """
    access = {"scope": scope, "projects": project, "users": user, "default": default}
    fields = {"id": id, **access, "configuration": options.pairs(configuration)}
    with records.given(context, file, records.CREDENTIALS, **fields) as document:
        added = session.connect(context).extensions.credentials(extension, service).add(document)
    output.done(format, added, f'Credentials "{added["id"]}" successfully added to service "{service}" from extension "{extension}".')


@credentials.command(name="update", epilog=options.examples("fuseml extension credentials update minio s3 ci --project demo"))
def update_credentials(
    context: typer.Context,
    extension: options.Extension,
    service: Service,
    id: CredentialsId,
    file: options.File = None,
    scope: Scope = None,
    project: Projects = None,
    user: Users = None,
    default: Default = None,
    configuration: options.Configuration = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Change credentials: replace what is given, keep the rest."""
    access = {"scope": scope, "projects": project, "users": user, "default": default}
    fields = {**access, "configuration": options.pairs(configuration)}
    with records.given(context, file, records.CREDENTIALS, **fields) as document:
        changed = session.connect(context).extensions.credentials(extension, service).update(id, document)
    output.done(format, changed, f'Credentials "{id}" of service "{service}" from extension "{extension}" successfully updated.')


@credentials.command(name="list", epilog=options.examples("fuseml extension credentials list minio s3"))
def list_credentials(
    context: typer.Context, extension: options.Extension, service: Service, format: options.Output = output.Format.TABLE
) -> None:
    """List the credentials of a service, without their values."""
    found = session.connect(context).extensions.credentials(extension, service).list()
    output.listing(format, found, _CREDENTIALS, "It has no credentials; `fuseml extension credentials add` adds some.")


@credentials.command(name="delete", epilog=options.examples("fuseml extension credentials delete minio s3 ci"))
def delete_credentials(
    context: typer.Context, extension: options.Extension, service: Service, id: CredentialsId, force: options.Force = False
) -> None:
    """Delete credentials."""
    session.connect(context).extensions.credentials(extension, service).delete(id, force=force)
    typer.echo(f'Credentials "{id}" successfully deleted from service "{service}" from extension "{extension}".')
