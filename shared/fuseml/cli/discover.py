"""`fuseml extension discover`: which tools are there, and what their records would be.

Addresses that were given, and the server's own MLflow, are asked by the server, which has to reach them. The person's environment is
read, and what it names is asked, here: the server sees neither, unless the finding is registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fuseml.cli import options, output, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes
    from fuseml.client.api import Client
    from fuseml.domain.registry import extension


def _services(proposal: options.Item) -> list[options.Item]:
    record = proposal.get("extension")
    services = record.get("services") if isinstance(record, dict) else None
    return services if isinstance(services, list) else []


def _secrets(proposal: options.Item) -> list[str]:
    credentials = [item for service in _services(proposal) for item in cast("registry_shapes.Service", service).get("credentials", [])]
    return list(dict.fromkeys(key for item in credentials for key in item.get("configuration", {})))


def _of_record(key: str) -> output.Column:
    def read(proposal: options.Item) -> object:
        record = proposal.get("extension")
        return record.get(key) if isinstance(record, dict) else None

    return output.Column(key.title(), read)


_COLUMNS = (
    output.column("URL", "url"),
    output.column("State"),
    output.column("ID", "id"),
    _of_record("product"),
    _of_record("version"),
    output.Column("Services", lambda proposal: [service.get("resource") for service in _services(proposal)], cut=True),
    output.Column("Credentials", _secrets, cut=True),
    output.column("Note", "message", cut=True),
)


def discover(
    context: typer.Context,
    urls: Annotated[list[str] | None, typer.Argument(help="Addresses to ask, 20 at most.", metavar="URL", show_default=False)] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Register what is new.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Find tools, and propose records for them.

    At the given URLs, or else where the server's own MLflow is and where your environment points: MLFLOW_TRACKING_URI, AWS_* and ~/.aws.
    """
    client = session.connect(context)
    found: list[registry_shapes.Proposal] = list(client.extensions.discover(urls, apply=apply)) if urls else _around(context, client, apply)
    output.listing(format, found, _COLUMNS, "There is nothing to ask; give a URL, or set MLFLOW_TRACKING_URI or AWS_ENDPOINT_URL.")
    if format is not output.Format.TABLE:
        return
    if any(proposal["state"] == "new" for proposal in found):
        typer.echo("\nRepeat the command with --apply to register what is new.")
    if any(_secrets(proposal) for proposal in found if proposal["state"] != "known"):
        typer.echo("Credentials are for all projects; `fuseml extension credentials update` narrows that.")


def _around(context: typer.Context, client: Client, apply: bool) -> list[registry_shapes.Proposal]:
    mlflow = (client.readiness().get("components") or {}).get("mlflow", {}).get("url")
    found = client.extensions.discover([mlflow], apply=apply) if mlflow else []
    own = _of_environment(client, session.settings(context).environment, {proposal["url"] for proposal in found}, apply)
    return [*found, *own]


def _of_environment(client: Client, variables: Mapping[str, str], seen: set[str], apply: bool) -> Sequence[registry_shapes.Proposal]:
    from fuseml.domain.registry import extension
    from fuseml.probes import discovery, environment, targets

    wanted = environment.find(
        variables,
        _text_of(variables, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        _text_of(variables, "AWS_CONFIG_FILE", "config"),
    )

    def create(draft: extension.Extension) -> extension.Extension:
        return extension.Extension.model_validate(client.extensions.register(draft.model_dump(mode="json", exclude_defaults=True)))

    registered = {
        targets.normalise(endpoint["url"]): record["id"]
        for record in client.extensions.list()
        for service in record["services"]
        for endpoint in service["endpoints"]
    }
    proposals = discovery.propose([tool for tool in wanted if targets.normalise(tool.url) not in seen], registered)
    if apply:
        proposals = [discovery.register(proposal, create) for proposal in proposals]
    return [cast("registry_shapes.Proposal", discovery.without_secrets(proposal).model_dump(mode="json")) for proposal in proposals]


def _text_of(variables: Mapping[str, str], variable: str, name: str) -> str:
    """One of the AWS tools' files; nothing when there is none."""
    file = variables.get(variable) or (str(Path(variables["HOME"], ".aws", name)) if variables.get("HOME") else "")
    try:
        return session.read(file) if file else ""
    except errors.NotFoundError:
        return ""
