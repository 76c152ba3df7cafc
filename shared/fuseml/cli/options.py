"""Arguments and options that several commands share, spelled as in the original where it had them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, TypedDict

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from fuseml.cli import output, session
from fuseml.domain import errors


def option(*names: str, help: str, metavar: str = "", min: float | None = None) -> OptionInfo:
    """An option that is absent unless given. In the help its value is called by the last word of its first name."""
    kind = metavar or names[0].strip("-").rpartition("-")[2].upper()
    info: OptionInfo = typer.Option(*names, help=help, metavar=kind, min=min, show_default=False)
    return info


Item = Mapping[str, object]

Output = Annotated[output.Format, typer.Option("--output", "-o", "--format", metavar="FORMAT", help="Print as table, json or yaml.")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Its name; `-n NAME` works too.")]
Description = Annotated[str, option("--desc", "-d", help="What it is for.")]
Project = Annotated[str, option("--project", "-p", help="The project.")]
CodesetProject = Annotated[str, option("--codeset-project", "-p", help="The codeset's project.")]
CodesetName = Annotated[str, option("--codeset-name", "-c", help="The codeset's name.")]
Limit = Annotated[int | None, option("--limit", min=1, help="Show at most so many.")]
Configuration = Annotated[
    list[str] | None,
    option("--configuration", "-c", metavar="KEY=VALUE", help="A configuration entry; may be repeated."),
]

Force = Annotated[bool, typer.Option("--force", help="Even if assigned workflows need it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")]
Check = Annotated[bool, typer.Option("--check", help="As --dry-run; fail if a selector would break.")]

Input = Annotated[list[str] | None, option("--input", "-i", metavar="NAME=VALUE", help="An input's value; may be repeated.")]
Commit = Annotated[str, option("--commit", metavar="SHA", help="The codeset version; the newest if not given.")]
Until = Annotated[str, option("--until", metavar="STEP", help="Only this step and what it needs.")]
Only = Annotated[str, option("--only", metavar="STEP", help="Only this step, on recorded outputs.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Execute every step, also those that the cache holds.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the run, approvals included, and all it leads to; exit 1 if one fails.")]

OptionalDescription = Annotated[str | None, option("--desc", "-d", help="What it is for.")]
File = Annotated[str | None, option("--file", "-f", help="The record, YAML or JSON; `-` is standard input.", metavar="FILE")]
Extension = Annotated[str, typer.Argument(help="The extension's id.", metavar="EXTENSION", show_default=False)]


class _Group(TypedDict):
    no_args_is_help: bool
    rich_markup_mode: None


# Plain help: rich would cost every `--help` as much as all the rest of the start.
GROUP: _Group = {"no_args_is_help": True, "rich_markup_mode": None}


def examples(*lines: str) -> str:
    """The block that ends a command's help; typer prints it as it stands."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


class Named(TyperCommand):
    """A command whose NAME may also be given as `-n NAME` or `--name NAME`, the original's way."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer keeps its Context's parent private
        return super().parse_args(ctx, list(_positional(args)))


def _positional(arguments: Sequence[str]) -> Iterator[str]:
    skip = False
    for index, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[index:]
            return
        if argument in ("-n", "--name") and index + 1 < len(arguments) and not skip:
            skip = True
            continue
        skip = False
        yield argument.removeprefix("--name=") if argument.startswith("--name=") else argument


def pairs(entries: Sequence[str] | None) -> dict[str, str]:
    """`KEY=VALUE` (or the original's `KEY:VALUE`) entries. A value may hold both signs and commas. Raises InvalidError."""
    found: dict[str, str] = {}
    for entry in entries or ():
        cut = min((at for at in (entry.find("="), entry.find(":")) if at > 0), default=0)
        if not cut:
            raise errors.InvalidError(f"{entry!r} is not a configuration entry; write KEY=VALUE")
        found[entry[:cut]] = entry[cut + 1 :]
    return found


def named(entries: Sequence[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE` entries, such as a run's inputs. A value may be empty and hold any sign. Raises InvalidError."""
    found = dict(entry.split("=", 1) for entry in entries or () if not entry.startswith("=") and "=" in entry)
    wrong = [entry for entry in entries or () if entry.startswith("=") or "=" not in entry]
    if wrong:
        raise errors.InvalidError(f"{wrong[0]!r} does not say which {what} is meant; write NAME=VALUE")
    return found


def document(file: str | None, **fields: object) -> str | dict[str, object]:
    """What to send: the file's text, or the fields that were given. Raises InvalidError when both were."""
    given = {key: value for key, value in fields.items() if value not in (None, {}, [])}
    if file and given:
        raise errors.InvalidError(f"{file} holds the whole record; leave out --{next(iter(given)).replace('_', '-')} or write it there")
    return session.read(file) if file else given
