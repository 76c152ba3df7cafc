"""`fuseml extension apply`: the registry as files say. Everything is read and planned before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import impact, options, output, records, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes
    from fuseml.client.extensions import Extensions

OWN = "fuseml"
"""The record that the server keeps of itself; no file of the user's holds it."""

_DONE = {"registers": "registered", "updates": "updated", "removes": "deleted", "none": "unchanged"}


def apply(
    context: typer.Context,
    place: Annotated[str, options.option("--file", "-f", metavar="DIR|FILE", help="The records: a file, or a folder with its folders.")],
    prune: Annotated[bool, typer.Option("--prune", help="Delete the extensions that the files do not hold.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete also what assigned workflows need.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Make the registry hold what files say.

    The files are the whole truth of their records: what they do not name is
    removed. Secrets stand in them as ${env:NAME} or ${file:PATH}, or as
    <hidden>, which keeps what is stored. The same files again change nothing.
    Effects on workflows are told for each record by itself.
    """
    found = records.load(context, place)
    extensions = session.connect(context).extensions
    planned = [_planned(extensions, record) for record in found]
    kept = {OWN, *(record.id for record in found)}
    unnamed = [str(item["id"]) for item in extensions.list() if item["id"] not in kept] if prune else []
    planned += [extensions.plan_deletion(extension) for extension in unnamed]
    if format is output.Format.TABLE:
        impact.show(planned)
    if not dry_run:
        if unnamed and not yes:
            _confirm(unnamed)
        for record, plan in zip(found, planned, strict=False):
            _do(extensions, record, plan)
        for extension in unnamed:
            extensions.delete(extension, force=force)
    if format is output.Format.TABLE:
        typer.echo(_summary(planned, dry_run=dry_run))
    else:
        output.dump(format, planned)


def _planned(extensions: Extensions, record: records.Record) -> registry_shapes.Impact:
    with record.blamed():
        return extensions.plan(record.data, replace=True)


def _confirm(unnamed: Sequence[str]) -> None:
    try:
        typer.confirm(f"Delete {', '.join(unnamed)}?", abort=True, err=True)
    except typer.Abort:
        raise errors.PermanentError("nothing was changed; answer y, or pass --yes, to delete what the files do not hold") from None


def _do(extensions: Extensions, record: records.Record, plan: registry_shapes.Impact) -> None:
    with record.blamed():
        if plan["change"] == "registers":
            extensions.register(record.data)
        elif plan["change"] == "updates":
            # Only what was shown is done: not when somebody else has changed the record since.
            extensions.update(record.id, record.data, plan["revision"], replace=True)


def _summary(planned: Sequence[registry_shapes.Impact], *, dry_run: bool) -> str:
    counts = {kind: sum(plan["change"] == kind for plan in planned) for kind in _DONE}
    told = ", ".join(f"{count} {_DONE[kind]}" for kind, count in counts.items() if count)
    return f"Would be done: {told}." if dry_run else f"Done: {told}."
