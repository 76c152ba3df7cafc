"""The output of `fuseml codeset status`, and of the registration of a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fuseml.cli import output, terminal

if TYPE_CHECKING:
    from fuseml.client import codeset_shapes

_SHORT = 12
_SHOWN = 10

_STATUSES = (
    output.column("Context"),
    output.Column("Commit", lambda item: str(item.get("commit"))[:_SHORT]),
    output.column("State"),
    output.Column("Sent", lambda item: "yes" if item.get("sent") else "no"),
    output.column("Description", cut=True),
)


def show_registration(format: output.Format, registered: codeset_shapes.CopyRegistration) -> None:
    """The registered copy, and what a person enters at the host where the webhook could not be set up."""
    codeset, webhook = registered["codeset"], registered["webhook"]
    if format is not output.Format.TABLE:
        output.done(format, registered, "")
        return
    terminal.echo(f"Codeset {codeset['project']}/{codeset['name']} successfully registered; it follows its origin.")
    if webhook["state"] == "set":
        terminal.echo("The webhook is set up.")
    elif webhook["state"] == "none":
        terminal.echo("The host has no API that FuseML knows: it is asked every few minutes. --host names its product.")
    else:
        terminal.echo(f"The webhook is not set up: {webhook['problem']}.")
        terminal.echo("Enter it at the host:")
        fields = {"URL": webhook["url"], webhook["secret_field"]: webhook["secret"], "Content type": webhook["content_type"]}
        for name, value in {**fields, "Events": ", ".join(webhook["events"])}.items():
            terminal.echo(f"  {name}: {value}")


def show(format: output.Format, status: codeset_shapes.CodesetStatus) -> None:
    """The status of a codeset."""
    if format is not output.Format.TABLE:
        output.done(format, status, "")
        return
    for name, value in _facts(status):
        terminal.echo(f"{name + ':':<14}{value}")
    if status["statuses"]:
        terminal.echo("")
        output.listing(format, status["statuses"][:_SHOWN], _STATUSES, "")
    terminal.echo("")
    if not status["missing"]:
        terminal.echo("Nothing is missing.")
        return
    terminal.echo("Missing:")
    for item in status["missing"]:
        terminal.echo(f"- {item}")


def _facts(status: codeset_shapes.CodesetStatus) -> Iterator[tuple[str, str]]:
    yield "Codeset", f"{status['project']}/{status['name']}"
    yield "Address", status["url"]
    origin, webhook, access = status["origin"], status["webhook"], status["access"]
    if origin is None:
        yield "Origin", "none: git pushes to the address"
        return
    yield "Origin", origin["url"]
    yield "Host", origin["host"] + (f", by {origin['vcs']}" if origin["vcs"] else "")
    if access is not None:
        yield "Token", access["problem"] or ", ".join(_rights(access))
    if webhook is not None and webhook["state"] != "none":
        yield "Webhook", webhook["state"] + (f": {webhook['problem']}" if webhook["problem"] else "")
        yield "Last delivery", f"{output.age(origin['delivered'])} ago ({origin['delivery']})" if origin["delivered"] else "none"
    yield "Synchronised", f"{output.age(origin['synced'])} ago" if origin["synced"] else "not yet"


def _rights(access: codeset_shapes.Access) -> Iterator[str]:
    rights: Mapping[str, bool] = {"read": access["read"], "webhooks": access["webhooks"], "commit statuses": access["statuses"]}
    for name, has in rights.items():
        yield name if has else f"no {name}"
