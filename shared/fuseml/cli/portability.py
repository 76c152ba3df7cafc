"""`fuseml workflow check`: the bindings of a workflow on another instance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import portability_shapes
    from fuseml.client.api import Client

_HIDDEN = "<hidden>"
_TOKEN = "FUSEML_AGAINST_TOKEN"  # noqa: S105 - the name of a variable
_SUFFIXES = (".yaml", ".yml", ".json")

_COLUMNS = (
    output.column("Step"),
    output.column("Selector"),
    output.column("State"),
    output.Column("Here", lambda item: item.get("here"), fold=True),
    output.Column("There", lambda item: item.get("there"), fold=True),
)


def check(
    context: typer.Context,
    name: options.Name,
    against: Annotated[str, options.option("--against", metavar="FILE|DIR|URL", help="Record files, or the server of the other instance.")],
    project: options.Project = "",
    zone: Annotated[str, options.option("--zone", help="The zone of the other control plane.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Compare the bindings with another instance.

    binds: to an equal service. differs: it runs, with another product,
    version or environment. missing: it would not run; exit code 1. The other
    server is only read: its token is the password in its URL, or
    FUSEML_AGAINST_TOKEN. Values of secrets are sent nowhere.
    """
    client = session.connect(context)
    other = _other(context, against) if against.startswith(("http://", "https://")) else None
    records = list(other.extensions.list()) if other else list(_records(against))
    found = client.workflows.compare_instances(name, [_masked(record) for record in records], project, zone)
    refusals = _refusals(client, other, name, project) if other else []
    if format is output.Format.TABLE:
        _show(found, refusals)
    else:
        output.dump(format, {**found, "refusals": refusals})
    if not found["portable"] or refusals:
        raise typer.Exit(1)


def _other(context: typer.Context, url: str) -> Client:
    from fuseml.client import api
    from fuseml.domain import urls

    given = session.settings(context)
    bare, _, token = urls.split(url)
    # The token of this server is not for the other one.
    there = dataclasses.replace(given, url=bare, url_is_chosen=True, token=token or given.environment.get(_TOKEN, ""))
    return api.Client(there.server_url(), there.access_token(), there.timeout)


def _refusals(client: Client, other: Client, name: str, project: str) -> list[str]:
    """The reasons for which the other instance would not store the document: runnables that it does not have, fields that it does not know."""
    document = {key: value for key, value in client.workflows.get(name).items() if key not in ("created", "revision")}
    findings = other.workflows.lint(json.dumps(document), project)
    return [finding["message"] for finding in findings if finding["level"] == "error"]


def _records(place: str) -> Iterator[dict[str, Any]]:
    """The records of a file, or of the files below a folder. A document is a record, or a list of records as `extension list -o yaml` prints it.

    References to secrets stay as they are: no value of a secret is needed.
    """
    from fuseml.domain.documents import document, multiple

    folder = Path(place)
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES) if folder.is_dir() else [folder]
    number = 0
    for file in files:
        for part in multiple.separate(session.read(str(file))):
            with session.naming_source(str(file)):
                data = document.parse(*part).data
                for record in data if isinstance(data, list) else [data]:
                    if not isinstance(record, dict):
                        raise errors.InvalidError("a record must be a mapping of keys to values")
                    number += 1
                    yield _plain(record)
    if not number:
        raise errors.NotFoundError(f"{place} contains no record; `fuseml extension list -o yaml` prints those of an instance")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool) else str(value)


def _masked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record without values of secrets, and without what its own server says about it."""
    services = record.get("services")
    return {
        **{key: value for key, value in record.items() if key not in ("status", "revision")},
        "services": [_masked_service(service) for service in services] if isinstance(services, list) else [],
    }


def _masked_service(service: Any) -> Any:
    credentials = service.get("credentials") if isinstance(service, dict) else None
    if not isinstance(credentials, list):
        return service
    return {**service, "credentials": [_masked_credentials(item) for item in credentials]}


def _masked_credentials(item: Any) -> Any:
    configuration = item.get("configuration") if isinstance(item, dict) else None
    return {**item, "configuration": dict.fromkeys(configuration, _HIDDEN)} if isinstance(configuration, dict) else item


def _show(found: portability_shapes.Portability, refusals: list[str]) -> None:
    comparisons = found["comparisons"]
    if comparisons:
        output.table(comparisons, _COLUMNS)
    else:
        terminal.echo(f"Workflow {found['workflow']} selects no service.")
    for item in comparisons:
        place = f"{item['step']}/{item['selector']}"
        for difference in item["differences"]:
            values = f"{difference['here'] or 'nothing'} here, {difference['there'] or 'nothing'} there"
            terminal.echo(f"~ {place}: {difference['what']} is {values}")
        if item["reason"]:
            terminal.echo(f"{'-' if item['state'] == 'missing' else '~'} {place}: {item['reason']}")
    for refusal in refusals:
        terminal.echo(f"- the other instance refuses the document: {refusal}")
    counts = [(state, sum(item["state"] == state for item in comparisons)) for state in ("binds", "differs", "missing")]
    summary = ", ".join(f"{number} {state}" for state, number in counts if number)
    terminal.echo(
        f"{'It runs there' if found['portable'] and not refusals else 'It does not run there'}{f': {summary}' if summary else ''}."
    )
