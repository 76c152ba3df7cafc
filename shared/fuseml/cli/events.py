"""`fuseml events`."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import event_shapes

app = typer.Typer(help="Events: the ledger, dead letters, replay.", **options.GROUP)

EventName = Annotated[str, typer.Argument(help="Number or id of the event.", metavar="EVENT", show_default=False)]
Type = Annotated[str, options.option("--type", "-t", help="Only events of this type: run.finished, or run.*")]
Subject = Annotated[str, options.option("--subject", help="Only events of this subject, such as demo/diabetes.")]
Source = Annotated[str, options.option("--source", help="Source of the event, if its id is ambiguous.")]
FromSource = Annotated[str, options.option("--source", help="Only events of this source.")]
Since = Annotated[str, options.option("--since", metavar="TIME", help="Only events since then: 10m, 2h, 1d, or RFC 3339.")]

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LIMIT = 50


def short(event: Mapping[str, object]) -> str:
    """The short form of an event's type: `run.finished`, or of the engine `taskrun.successful`."""
    type = str(event.get("type") or "")
    prefix = next((prefix for prefix in ("org.fuseml.", "dev.tekton.event.") if type.startswith(prefix)), None)
    return type.removeprefix(prefix).removesuffix(".v1") if prefix else type


def _dead_deliveries(event: Mapping[str, object], key: str) -> list[str]:
    deliveries = event.get("deliveries")
    return [str(item[key]) for item in deliveries if item["state"] == "dead"] if isinstance(deliveries, list) else []


_COLUMNS = (
    output.column("Event", "number"),
    output.Column("Type", short),
    output.column("Subject", cut=True),
    output.Column("Age", lambda event: output.age(event.get("received"))),
    output.column("Outcome", states=True),
)
_DEAD = (
    *_COLUMNS[:2],
    output.column("Subject", cut=True),
    _COLUMNS[3],
    output.Column("Consumer", lambda event: _dead_deliveries(event, "consumer")),
    output.Column("Cause", lambda event: "; ".join(_dead_deliveries(event, "error")), cut=True),
)
_EVENT = (
    output.column("Event", "number"),
    output.column("Type"),
    output.column("Source"),
    output.column("Id"),
    output.column("Subject"),
    output.Column("Age", lambda event: output.age(event.get("received"))),
    output.column("Outcome", states=True),
    output.Column("Cause", lambda event: "; ".join(_dead_deliveries(event, "error"))),
)
_DELIVERIES = (
    output.column("Consumer"),
    output.column("State", states=True),
    output.Column("Attempts", lambda delivery: delivery.get("attempts") or None),
    output.column("Cause", "error", cut=True),
)
_PAIRS = (output.column("Key"), output.column("Value"))


@app.command(
    name="list",
    epilog=options.examples(
        "fuseml events list --since 10m", "fuseml events list -t 'run.*' --subject mlflow-e2e-1", "fuseml events list --dead"
    ),
)
def list_(
    context: typer.Context,
    type: Type = "",
    subject: Subject = "",
    source: FromSource = "",
    since: Since = "",
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters, with their causes.")] = False,
    limit: options.Limit = _LIMIT,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List events, newest first; at most 50 without --limit."""
    events = session.connect(context).events.list(type=type, subject=subject, source=source, since=moment(since), dead=dead, limit=limit)
    empty = (
        "There are no dead letters: every event was delivered."
        if dead
        else "There is no matching event; `fuseml push` publishes the first ones."
    )
    output.listing(format, events, _DEAD if dead else _COLUMNS, empty)


@app.command(epilog=options.examples("fuseml events show 42", "fuseml events show 42 -o json"))
def show(context: typer.Context, event: EventName, source: Source = "", format: options.Output = output.Format.TABLE) -> None:
    """Show one event with its data and deliveries."""
    item = session.connect(context).events.get(event, source)
    output.record(format, item, _EVENT, ("Deliveries", "deliveries", _DELIVERIES))
    if format is output.Format.TABLE:
        for title, pairs in (("Data", item.get("data")), ("Extensions", item.get("extensions"))):
            if pairs:
                terminal.echo(f"\n{title}:")
                output.table([{"key": key, "value": value} for key, value in pairs.items()], _PAIRS, indent=2)


@app.command(epilog=options.examples("fuseml events tail", "fuseml events tail -t 'run.*' --last 0"))
def tail(
    context: typer.Context,
    type: Type = "",
    subject: Subject = "",
    source: FromSource = "",
    since: Since = "",
    last: Annotated[int, typer.Option("--last", min=0, metavar="N", help="Start with the last N events.")] = 10,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show new events until Ctrl-C.

    An event is shown again when its outcome changes. With -o json, each line is one object.
    """
    client = session.connect(context)
    for event in client.events.follow(type=type, subject=subject, source=source, since=moment(since), last=last):
        terminal.echo(_line(event) if format is output.Format.TABLE else terminal.escaped(json.dumps(event, ensure_ascii=False)))


def _line(event: event_shapes.EventSummary) -> str:
    """`time  number  type  subject  outcome`, with the consumers of a dead letter."""
    time = output.moment(event.get("received"))
    start = f"{time.astimezone().strftime('%H:%M:%S') if time else '':<8}  {event.get('number', ''):>5}  {short(event):<22}"
    outcome = event.get("outcome", "")
    if outcome == "dead":
        outcome = f"dead: {', '.join(_dead_deliveries(event, 'consumer'))}"
    subject = " ".join((event.get("subject") or "").split())
    console = output.console()
    width = console.width - len(start) - len(outcome) - 4
    if console.is_terminal and len(subject) > width:
        subject = f"{subject[: max(width, 10) - 1]}…"
    return f"{start}  {subject}  {outcome}".rstrip()


@app.command(epilog=options.examples("fuseml events replay 42", "fuseml events replay --dead", "fuseml events replay 42 --all"))
def replay(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(help="Number or id of the event.", metavar="EVENT", show_default=False)] = None,
    source: Source = "",
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters.")] = False,
    all_consumers: Annotated[bool, typer.Option("--all", help="Deliver any event, to all its consumers.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Deliver a dead letter again.

    Consumers that have handled the event ignore the repetition.
    """
    if bool(event) == dead:
        raise errors.InvalidError("name one event, or pass --dead for all dead letters")
    client = session.connect(context)
    keys = [(event, source)] if event else [(str(item["number"]), "") for item in client.events.list(dead=True)]
    replayed = [client.events.replay(key, origin, all_consumers=all_consumers) for key, origin in keys]
    if format is not output.Format.TABLE:
        output.dump(format, replayed[0] if event else replayed)
        return
    for item in replayed:
        terminal.echo(f"Event {item['number']} ({short(item)}) is being delivered again; see `fuseml events show {item['number']}`.")
    if not replayed:
        terminal.echo("There are no dead letters.", err=True)


@app.command(epilog=options.examples("fuseml events drop 42"))
def drop(context: typer.Context, event: EventName, source: Source = "", format: options.Output = output.Format.TABLE) -> None:
    """Drop a dead letter for good; the ledger keeps the event."""
    dropped = session.connect(context).events.drop(event, source)
    output.done(format, dropped, f"Event {dropped['number']} ({short(dropped)}) is no longer a dead letter.")


@app.command(
    epilog=options.examples(
        "fuseml events send run.cancel_requested run=mlflow-e2e-1 reason=enough",
        "fuseml events send codeset.pushed -f pushed.yaml --id again",
    )
)
def send(
    context: typer.Context,
    type: Annotated[str, typer.Argument(help="Type of the event, in full or short.", metavar="TYPE", show_default=False)],
    fields: Annotated[list[str] | None, typer.Argument(help="Fields of its data.", metavar="[KEY=VALUE]...", show_default=False)] = None,
    file: Annotated[str, options.option("--file", "-f", help="File with its data, YAML or JSON; `-` is standard input.")] = "",
    id: Annotated[str, options.option("--id", help="Id; derived from the data by default.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Publish an event in place of the function that owns it.

    Equal data have an equal id: publishing them again has no effect.
    """
    event = session.connect(context).events.send(type, {**_data(file), **options.named(fields, "field")}, id)
    duplicate = f"The event {event['id']} exists, so this has no effect; pass another --id to publish it again."
    output.done(format, event, duplicate if event["duplicate"] else f"Published {short(event)} with id {event['id']}.")


def _data(file: str) -> dict[str, object]:
    if not file:
        return {}
    from fuseml.domain.documents import document

    with session.naming_source(file):
        data = document.parse(session.read(file)).data
    if not isinstance(data, dict):
        raise errors.InvalidError(f"{file} must contain a mapping of the event's fields to values")
    return data


def moment(text: str) -> str:
    """The RFC 3339 time `10m` ago; any other text unchanged, which the server validates."""
    match = _AGO.fullmatch(text)
    if not match:
        return text
    ago = datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    return (datetime.datetime.now(datetime.UTC) - ago).isoformat()
