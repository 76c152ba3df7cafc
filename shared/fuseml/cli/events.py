"""`fuseml events`."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import event_shapes

app = typer.Typer(help="Events: the ledger, dead letters, replay.", **options.GROUP)

EventName = Annotated[str, typer.Argument(help="Its number in the list, or its id.", metavar="EVENT", show_default=False)]
Type = Annotated[str, options.option("--type", "-t", help="Only of this type: run.finished, or run.*")]
Subject = Annotated[str, options.option("--subject", "-s", help="Only about this, such as demo/diabetes.")]
Source = Annotated[str, options.option("--source", help="Its source, where the id is not unique.")]
FromSource = Annotated[str, options.option("--source", help="Only from this source.")]
Since = Annotated[str, options.option("--since", metavar="TIME", help="Only after this: 10m, 2h, 1d, or RFC 3339.")]

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LIMIT = 50


def short(event: Mapping[str, object]) -> str:
    """An event's type as people say it: `run.finished`, and of the engine `taskrun.successful`."""
    type = str(event.get("type") or "")
    known = next((prefix for prefix in ("org.fuseml.", "dev.tekton.event.") if type.startswith(prefix)), None)
    return type.removeprefix(known).removesuffix(".v1") if known else type


def _given_up(event: Mapping[str, object], key: str) -> list[str]:
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
    output.Column("Consumer", lambda event: _given_up(event, "consumer")),
    output.Column("Cause", lambda event: "; ".join(_given_up(event, "error")), cut=True),
)
_EVENT = (
    output.column("Event", "number"),
    output.column("Type"),
    output.column("Source"),
    output.column("Id"),
    output.column("Subject"),
    output.Column("Age", lambda event: output.age(event.get("received"))),
    output.column("Outcome", states=True),
    output.Column("Cause", lambda event: "; ".join(_given_up(event, "error"))),
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
    epilog=options.examples("fuseml events list --since 10m", "fuseml events list -t 'run.*' -s mlflow-e2e-1", "fuseml events list --dead"),
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
    """List events, newest first, at most 50 unless --limit says more."""
    found = session.connect(context).events.list(type=type, subject=subject, source=source, since=moment(since), dead=dead, limit=limit)
    empty = (
        "There are no dead letters: every event was delivered." if dead else "There is no such event; `fuseml push` makes the first ones."
    )
    output.listing(format, found, _DEAD if dead else _COLUMNS, empty)


@app.command(epilog=options.examples("fuseml events show 42", "fuseml events show 42 -o json"))
def show(context: typer.Context, event: EventName, source: Source = "", format: options.Output = output.Format.TABLE) -> None:
    """Show one event: what it says, and what became of it."""
    found = session.connect(context).events.get(event, source)
    output.record(format, found, _EVENT, ("Deliveries", "deliveries", _DELIVERIES))
    if format is output.Format.TABLE:
        for title, pairs in (("Data", found.get("data")), ("Extensions", found.get("extensions"))):
            if pairs:
                typer.echo(f"\n{title}:")
                output.table([{"key": key, "value": value} for key, value in pairs.items()], _PAIRS, indent=2)


@app.command(epilog=options.examples("fuseml events tail", "fuseml events tail -t 'run.*' -n 0"))
def tail(
    context: typer.Context,
    type: Type = "",
    subject: Subject = "",
    source: FromSource = "",
    since: Since = "",
    last: Annotated[int, typer.Option("--last", "-n", min=0, metavar="N", help="Begin with the last N.")] = 10,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show events as they come, until Ctrl-C.

    An event whose delivery takes longer is shown again with what became of it. With -o json, one object a line.
    """
    client = session.connect(context)
    for event in client.events.follow(type=type, subject=subject, source=source, since=moment(since), last=last):
        typer.echo(_line(event) if format is output.Format.TABLE else json.dumps(event, ensure_ascii=False))


def _line(event: event_shapes.EventSummary) -> str:
    """`time  number  type  subject  outcome`, and who gave up on it."""
    time = output.moment(event.get("received"))
    told = f"{time.astimezone().strftime('%H:%M:%S') if time else '':<8}  {event.get('number', ''):>5}  {short(event):<22}"
    ends = event.get("outcome", "")
    if ends == "dead":
        ends = f"dead: {', '.join(_given_up(event, 'consumer'))}"
    subject = " ".join((event.get("subject") or "").split())
    screen = output.console()
    room = screen.width - len(told) - len(ends) - 4
    if screen.is_terminal and len(subject) > room:
        subject = f"{subject[: max(room, 10) - 1]}…"
    return f"{told}  {subject}  {ends}".rstrip()


@app.command(epilog=options.examples("fuseml events replay 42", "fuseml events replay --dead", "fuseml events replay 42 --all"))
def replay(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(help="Its number in the list, or its id.", metavar="EVENT", show_default=False)] = None,
    source: Source = "",
    dead: Annotated[bool, typer.Option("--dead", help="Every dead letter.")] = False,
    everybody: Annotated[bool, typer.Option("--all", help="Also to those who have not failed on it.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Deliver a dead letter again.

    Those who have handled the event already know it, and do nothing.
    """
    if bool(event) == dead:
        raise errors.InvalidError("name an event, or give --dead for every dead letter")
    client = session.connect(context)
    wanted = [(event, source)] if event else [(str(item["number"]), "") for item in client.events.list(dead=True)]
    replayed = [client.events.replay(name, origin, everybody=everybody) for name, origin in wanted]
    if format is not output.Format.TABLE:
        output.dump(format, replayed[0] if event else replayed)
        return
    for item in replayed:
        typer.echo(f"Event {item['number']} ({short(item)}) is being delivered again; see `fuseml events show {item['number']}`.")
    if not replayed:
        typer.echo("There are no dead letters.", err=True)


@app.command(epilog=options.examples("fuseml events drop 42"))
def drop(context: typer.Context, event: EventName, source: Source = "", format: options.Output = output.Format.TABLE) -> None:
    """Give up a dead letter for good; the event stays in the ledger."""
    dropped = session.connect(context).events.drop(event, source)
    output.done(format, dropped, f"Event {dropped['number']} ({short(dropped)}) is no dead letter any more.")


@app.command(
    epilog=options.examples(
        "fuseml events send run.cancel_requested run=mlflow-e2e-1 reason=enough",
        "fuseml events send codeset.pushed -f pushed.yaml --id again",
    )
)
def send(
    context: typer.Context,
    type: Annotated[str, typer.Argument(help="Its type, whole or in short.", metavar="TYPE", show_default=False)],
    fields: Annotated[list[str] | None, typer.Argument(help="What it says.", metavar="[KEY=VALUE]...", show_default=False)] = None,
    file: Annotated[str, options.option("--file", "-f", help="Its data, YAML or JSON; `-` is standard input.")] = "",
    id: Annotated[str, options.option("--id", help="Its id; it follows from the data if not given.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Send an event, as the function would that usually does.

    The same data have the same id: sent twice, nothing happens the second time.
    """
    sent = session.connect(context).events.send(type, {**_data(file), **options.named(fields, "field")}, id)
    told = f"This event was there before, so nothing happens: {sent['id']} (another --id makes it another one)."
    output.done(format, sent, told if sent["duplicate"] else f"Sent {short(sent)} with id {sent['id']}.")


def _data(file: str) -> dict[str, object]:
    if not file:
        return {}
    from fuseml.domain.documents import document

    with session.blaming(file):
        data = document.parse(session.read(file)).data
    if not isinstance(data, dict):
        raise errors.InvalidError(f"{file} holds no mapping of the event's fields")
    return data


def moment(text: str) -> str:
    """An RFC 3339 time for `10m` (so long ago); any other text as it is, for the server to judge."""
    match = _AGO.fullmatch(text)
    if not match:
        return text
    ago = datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    return (datetime.datetime.now(datetime.UTC) - ago).isoformat()
