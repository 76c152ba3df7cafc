"""`fuseml extension discover`: probes of tools, and proposals of extension records for them.

The server probes given URLs and its own MLflow, because it has to reach them. The command itself reads the user's environment and probes
the tools named there: the server receives them only when they are registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fuseml.cli import options, output, session, terminal
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
    urls: Annotated[list[str] | None, typer.Argument(help="URLs to probe, at most 20.", metavar="URL", show_default=False)] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Register new tools.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Find tools and propose extension records for them.

    Probes the given URLs, or else the server's own MLflow and the tools of your environment: MLFLOW_TRACKING_URI, AWS_* and ~/.aws.
    """
    client = session.connect(context)
    proposals: list[registry_shapes.Proposal] = (
        list(client.extensions.discover(urls, apply=apply)) if urls else _without_urls(context, client, apply)
    )
    output.listing(format, proposals, _COLUMNS, "There is nothing to probe; give a URL, or set MLFLOW_TRACKING_URI or AWS_ENDPOINT_URL.")
    if format is not output.Format.TABLE:
        return
    if any(proposal["state"] == "new" for proposal in proposals):
        terminal.echo("\nRepeat the command with --apply to register the new tools.")
    if any(_secrets(proposal) for proposal in proposals if proposal["state"] != "known"):
        terminal.echo("Credentials are for all projects; `fuseml extension credentials update` restricts them.")


def _without_urls(context: typer.Context, client: Client, apply: bool) -> list[registry_shapes.Proposal]:
    mlflow = (client.readiness().get("components") or {}).get("mlflow", {}).get("url")
    proposals = client.extensions.discover([mlflow], apply=apply) if mlflow else []
    own = _of_environment(client, session.settings(context).environment, {proposal["url"] for proposal in proposals}, apply)
    return [*proposals, *own]


def _of_environment(client: Client, variables: Mapping[str, str], probed: set[str], apply: bool) -> Sequence[registry_shapes.Proposal]:
    from fuseml.domain.registry import extension
    from fuseml.probes import discovery, environment, targets

    tools = environment.find(
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
    proposals = discovery.propose([tool for tool in tools if targets.normalise(tool.url) not in probed], registered)
    if apply:
        proposals = [discovery.register(proposal, create) for proposal in proposals]
    return [cast("registry_shapes.Proposal", discovery.without_secrets(proposal).model_dump(mode="json")) for proposal in proposals]


def _text_of(variables: Mapping[str, str], variable: str, name: str) -> str:
    """The text of a file of the AWS tools; empty when it does not exist."""
    file = variables.get(variable) or (str(Path(variables["HOME"], ".aws", name)) if variables.get("HOME") else "")
    try:
        return session.read(file) if file else ""
    except errors.NotFoundError:
        return ""
