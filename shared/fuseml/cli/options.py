"""Arguments and options that several commands share; options of the original's CLI keep their spelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, TypedDict

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from fuseml.cli import completion, output, session
from fuseml.domain import errors


def option(
    *names: str, help: str, metavar: str = "", min: float | None = None, autocompletion: completion.Complete | None = None
) -> OptionInfo:
    """An option without a default. In the help, the last word of its first name stands for its value."""
    kind = metavar or names[0].strip("-").rpartition("-")[2].upper()
    info: OptionInfo = typer.Option(*names, help=help, metavar=kind, min=min, show_default=False, autocompletion=autocompletion)
    return info


Item = Mapping[str, object]

Output = Annotated[
    output.Format,
    typer.Option(
        "--output", "-o", "--format", metavar="FORMAT", help="Print as table, json, yaml, csv or text.", callback=output.format_of
    ),
]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", show_default=False, help="The name; `-n NAME` works, too.", autocompletion=completion.of_group),
]
Description = Annotated[str, option("--desc", help="A description.")]
Project = Annotated[str, option("--project", "-p", help="The project; by default the current one.", autocompletion=completion.projects)]
CodesetProject = Annotated[
    str, option("--codeset-project", "-p", help="The codeset's project; by default the current one.", autocompletion=completion.projects)
]
CodesetName = Annotated[str, option("--codeset-name", "-c", help="The codeset's name.", autocompletion=completion.codesets)]
Limit = Annotated[int | None, option("--limit", min=1, help="The most entries to show.")]
Configuration = Annotated[
    list[str] | None,
    option("--configuration", metavar="KEY=VALUE", help="A configuration entry; may be repeated."),
]

Force = Annotated[bool, typer.Option("--force", help="Proceed even if assigned workflows need it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the impact.")]
Check = Annotated[bool, typer.Option("--check", help="As --dry-run; exit 1 if a selector would break.")]

Input = Annotated[list[str] | None, option("--input", "-i", metavar="NAME=VALUE", help="An input's value; may be repeated.")]
Commit = Annotated[str, option("--commit", metavar="SHA", help="Codeset version; the newest by default.")]
Until = Annotated[str, option("--until", metavar="STEP", help="Run only this step and the steps it needs.")]
Only = Annotated[str, option("--only", metavar="STEP", help="Run only this step, on recorded outputs.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Execute every step, cached ones included.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the run, its approvals and the runs it causes; exit 1 if one fails.")]

OptionalDescription = Annotated[str | None, option("--desc", help="A description.")]
File = Annotated[str | None, option("--file", "-f", help="Record, YAML or JSON; `-` is standard input.", metavar="FILE")]
Extension = Annotated[
    str, typer.Argument(help="The extension's id.", metavar="EXTENSION", show_default=False, autocompletion=completion.extensions)
]


class _Group(TypedDict):
    no_args_is_help: bool
    rich_markup_mode: None


# Plain help: importing rich would double the time of every `--help`.
GROUP: _Group = {"no_args_is_help": True, "rich_markup_mode": None}


def examples(*lines: str) -> str:
    """The examples at the end of a command's help; typer prints the block unchanged."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


class Named(TyperCommand):
    """A command whose NAME may also be given as `-n NAME`, `--name NAME` or `--id NAME`, as in the original."""

    positional: ClassVar[tuple[str, ...]] = ("-n", "--name", "--id")

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer keeps its Context's parent private
        return super().parse_args(ctx, list(_positional(args, self.positional)))


class OfFile(Named):
    """A command whose FILE may also be given as `-f FILE` or `--file FILE`."""

    positional = ("-f", "--file")


def _positional(arguments: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    skip = False
    for index, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[index:]
            return
        if argument in names and index + 1 < len(arguments) and not skip:
            skip = True
            continue
        skip = False
        name, sign, value = argument.partition("=")
        yield value if sign and name.startswith("--") and name in names else argument


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the option was given on the command line, and does not have its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def pairs(entries: Sequence[str] | None) -> dict[str, str]:
    """Parse `KEY=VALUE` entries, or the original's `KEY:VALUE`. A value may contain both signs and commas. Raises InvalidError."""
    configuration: dict[str, str] = {}
    for entry in entries or ():
        sign = min((index for index in (entry.find("="), entry.find(":")) if index > 0), default=0)
        if not sign:
            raise errors.InvalidError(f"{entry!r} is not a configuration entry; write KEY=VALUE")
        configuration[entry[:sign]] = entry[sign + 1 :]
    return configuration


def named(entries: Sequence[str] | None, kind: str) -> dict[str, str]:
    """Parse `NAME=VALUE` entries, such as a run's inputs. A value may be empty and contain any sign. Raises InvalidError."""
    values = dict(entry.split("=", 1) for entry in entries or () if not entry.startswith("=") and "=" in entry)
    wrong = [entry for entry in entries or () if entry.startswith("=") or "=" not in entry]
    if wrong:
        raise errors.InvalidError(f"{wrong[0]!r} names no {kind}; write NAME=VALUE")
    return values


def document(file: str | None, **fields: object) -> str | dict[str, object]:
    """The document of a request: the file's text, or the given fields. Raises InvalidError for both at once."""
    given = {key: value for key, value in fields.items() if value not in (None, {}, [])}
    if file and given:
        raise errors.InvalidError(
            f"{file} contains the whole record; remove --{next(iter(given)).replace('_', '-')}, or add the field to the file"
        )
    return session.read(file) if file else given
