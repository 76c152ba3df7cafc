"""`fuseml resolve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import explanation, options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes

_BINDING = (
    output.Column("Extension", lambda item: " ".join(str(item[key]) for key in ("extension_id", "product", "version") if item.get(key))),
    output.column("Service", "service_id"),
    output.column("Resource", "service_resource"),
    output.column("Category", "service_category"),
    output.column("Zone"),
    output.column("URL", "url"),
    output.column("Endpoint", "endpoint_type"),
    output.column("Credentials", "credentials_id"),
    output.column("Ambiguous with", "ambiguous_with"),
    output.column("Note", "withheld"),
)


def resolve(
    context: typer.Context,
    extension_id: Annotated[str, options.option("--id", help="Id of the extension.")] = "",
    service_id: Annotated[str, options.option("--service-id", help="Id of the service.")] = "",
    product: Annotated[str, options.option("--product", help="Product, such as mlflow.")] = "",
    version: Annotated[str, options.option("--version", help="Version constraint, such as `>=1.10,<2`.")] = "",
    zone: Annotated[str, options.option("--zone", "-z", help="Zone of the extension.")] = "",
    resource: Annotated[str, options.option("--service-resource", "-r", help="Resource of the service.")] = "",
    category: Annotated[str, options.option("--service-category", help="Category of the service.")] = "",
    project: Annotated[str, options.option("--project", "-p", help="Resolve for this project.")] = "",
    user: Annotated[str, options.option("--user", help="Resolve for this user.")] = "",
    consumer_zone: Annotated[str, options.option("--from-zone", help="Resolve for a consumer in this zone.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show all candidates, with verdicts and reasons.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Resolve a selector: show its binding."""
    criteria = {
        "extension_id": extension_id,
        "service_id": service_id,
        "product": product,
        "version": version,
        "zone": zone,
        "service_resource": resource,
        "service_category": category,
    }
    selector: registry_shapes.Selector = {"name": "selector", **{key: value for key, value in criteria.items() if value}}  # type: ignore[typeddict-item]
    consumer: registry_shapes.Consumer = {"project": project, "user": user, "zone": consumer_zone}
    try:
        resolution = session.connect(context).resolver.resolve([selector], consumer, explain=explain)
    except errors.UnresolvedError as error:
        if not explain:
            raise
        explanation.show(error.details.get("explanations"))
        raise errors.NotFoundError(error.message) from None
    if format is not output.Format.TABLE:
        output.dump(format, resolution)
        return
    for binding in resolution["bindings"]:
        output.print_fields(binding, _BINDING)
        environment = binding.get("env") or {}
        if environment:
            terminal.echo("\nEnvironment:")
            rows = [{"key": key, "value": value} for key, value in environment.items()]
            output.table(rows, (output.column("Key"), output.column("Value")), indent=2)
    if explain:
        terminal.echo()
        explanation.show(resolution.get("explanations"))
