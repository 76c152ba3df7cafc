"""`fuseml extension apply`: make the registry equal to record files. All files are read and planned before the first change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import impact, options, output, records, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import registry_shapes
    from fuseml.client.extensions import Extensions

OWN = "fuseml"
"""The id of the server's own extension, which record files do not contain."""

_RESULTS = {"registers": "registered", "updates": "updated", "removes": "deleted", "none": "unchanged"}


def apply(
    context: typer.Context,
    place: Annotated[str, options.option("--file", "-f", metavar="DIR|FILE", help="A record file, or a folder of record files.")],
    prune: Annotated[bool, typer.Option("--prune", help="Delete extensions that are in no file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the impact.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete even if assigned workflows need it.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Make the registry equal to record files.

    A file contains its records whole: fields and parts that it lacks are
    deleted. Secrets are written as ${env:NAME} or ${file:PATH}, or as
    <hidden>, which keeps the stored value. Applying the same files again
    changes nothing. The impact on workflows is shown record by record.
    """
    loaded = records.load(context, place)
    extensions = session.connect(context).extensions
    impacts = [_plan(extensions, record) for record in loaded]
    kept = {OWN, *(record.id for record in loaded)}
    obsolete = [str(item["id"]) for item in extensions.list() if item["id"] not in kept] if prune else []
    impacts += [extensions.plan_deletion(extension) for extension in obsolete]
    if format is output.Format.TABLE:
        impact.show(impacts)
    if not dry_run:
        if obsolete and not yes:
            _confirm(obsolete)
        for record, plan in zip(loaded, impacts, strict=False):
            _execute(extensions, record, plan)
        for extension in obsolete:
            extensions.delete(extension, force=force)
    if format is output.Format.TABLE:
        terminal.echo(_summary(impacts, dry_run=dry_run))
    else:
        output.dump(format, impacts)


def _plan(extensions: Extensions, record: records.Record) -> registry_shapes.Impact:
    with record.locating_problems():
        return extensions.plan(record.data, replace=True)


def _confirm(obsolete: Sequence[str]) -> None:
    try:
        terminal.confirm(f"Delete {', '.join(obsolete)}?")
    except typer.Abort:
        raise errors.PermanentError("nothing was changed; answer y or pass --yes to delete the extensions that are in no file") from None


def _execute(extensions: Extensions, record: records.Record, plan: registry_shapes.Impact) -> None:
    with record.locating_problems():
        if plan["change"] == "registers":
            extensions.register(record.data)
        elif plan["change"] == "updates":
            # The revision guards the update: a record that changed after its impact was shown is not updated.
            extensions.update(record.id, record.data, plan["revision"], replace=True)


def _summary(impacts: Sequence[registry_shapes.Impact], *, dry_run: bool) -> str:
    counts = {kind: sum(plan["change"] == kind for plan in impacts) for kind in _RESULTS}
    summary = ", ".join(f"{count} {_RESULTS[kind]}" for kind, count in counts.items() if count)
    return f"Dry run: {summary}." if dry_run else f"Done: {summary}."
