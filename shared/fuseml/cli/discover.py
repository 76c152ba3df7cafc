"""`fuseml extension discover`: probes of tools, and proposals of extension records for them.

The server probes given URLs and its own MLflow, because it has to reach them. The command itself reads the user's environment and probes
the tools named there, or lists those of the user's cluster: the server receives them only when they are registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes
    from fuseml.client.api import Client
    from fuseml.domain.installation import findings
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
    cluster: Annotated[bool, typer.Option("--cluster", help="Look into the cluster of your kubeconfig instead.")] = False,
    zone: Annotated[str | None, options.option("--zone", "-z", help="With --cluster: the zone of the records.")] = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Find tools and propose extension records for them.

    Probes the given URLs, or else the server's own MLflow and the tools of your environment: MLFLOW_TRACKING_URI, AWS_* and ~/.aws.
    With --cluster, kubectl lists services, addresses and APIs; nothing is probed, and no account is read.
    """
    if cluster and urls:
        raise typer.BadParameter("give URLs or --cluster, not both")
    if zone is not None and not cluster:
        raise typer.BadParameter("--zone is for --cluster only")
    client = session.connect(context)
    proposals: list[registry_shapes.Proposal]
    if cluster:
        proposals = _of_cluster(context, client, zone, apply)
    else:
        proposals = list(client.extensions.discover(urls, apply=apply)) if urls else _without_urls(context, client, apply)
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
    from fuseml.probes import discovery, environment, targets

    tools = environment.find(
        variables,
        _text_of(variables, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        _text_of(variables, "AWS_CONFIG_FILE", "config"),
    )

    registered = {
        targets.normalise(endpoint["url"]): record["id"]
        for record in client.extensions.list()
        for service in record["services"]
        for endpoint in service["endpoints"]
    }
    proposals = discovery.propose([tool for tool in tools if targets.normalise(tool.url) not in probed], registered)
    if apply:
        proposals = [discovery.register(proposal, _creator(client)) for proposal in proposals]
    return [cast("registry_shapes.Proposal", discovery.without_secrets(proposal).model_dump(mode="json")) for proposal in proposals]


def _of_cluster(context: typer.Context, client: Client, zone: str | None, apply: bool) -> list[registry_shapes.Proposal]:
    from fuseml.domain.installation import findings
    from fuseml.domain.registry import extension
    from fuseml.installing import discovery as clusters
    from fuseml.installing import programs
    from fuseml.probes import discovery

    runner = programs.Programs(session.settings(context).environment)
    found, missing = clusters.discover(runner, clusters.zone(runner) if zone is None else zone)
    for right in missing:
        terminal.echo(f"warning: the account of the kubeconfig may not {right}; what only that shows is missing below", err=True)
    records = [extension.Extension.model_validate(record) for record in client.extensions.list()]

    def proposal(finding: findings.Finding) -> discovery.Proposal:
        known = findings.registered(finding, records)
        if known:
            return discovery.Proposal(url=finding.internal, state="known", id=known, message=f"registered as {known}")
        return discovery.Proposal(url=finding.internal, state="new", extension=finding.draft, message=_note(finding))

    proposals = [proposal(finding) for finding in found]
    if apply:
        proposals = [discovery.register(item, _creator(client)) for item in proposals]
    return [cast("registry_shapes.Proposal", item.model_dump(mode="json")) for item in proposals]


def _note(finding: findings.Finding) -> str:
    needs_account = any(service.auth_required for service in finding.draft.services)
    return f"{finding.origin}; add its account by `fuseml extension credentials add`" if needs_account else finding.origin


def _creator(client: Client) -> Callable[[extension.Extension], extension.Extension]:
    def create(draft: extension.Extension) -> extension.Extension:
        from fuseml.domain.registry import extension

        return extension.Extension.model_validate(client.extensions.register(draft.model_dump(mode="json", exclude_defaults=True)))

    return create


def _text_of(variables: Mapping[str, str], variable: str, name: str) -> str:
    """The text of a file of the AWS tools; empty when it does not exist."""
    file = variables.get(variable) or (str(Path(variables["HOME"], ".aws", name)) if variables.get("HOME") else "")
    try:
        return session.read(file) if file else ""
    except errors.NotFoundError:
        return ""
