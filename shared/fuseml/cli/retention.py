"""`fuseml artifact retention` and `fuseml artifact prune`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

app = typer.Typer(help="Policies: how long the artifacts of a project are kept.", **options.GROUP)

Kind = Annotated[str, options.option("--kind", "-k", help="code, model, dataset, runnable or image.")]
Newest = Annotated[int | None, options.option("--newest", min=1, metavar="N", help="Keep the newest N versions of each name.")]
Days = Annotated[int | None, options.option("--days", min=1, metavar="D", help="Keep the versions of the last D days.")]

_POLICIES = (
    output.column("Project"),
    output.column("Kind"),
    output.column("Newest"),
    output.column("Days"),
    output.column("By"),
    output.Column("Age", lambda policy: output.age(policy.get("updated"))),
)
_FATES = (
    output.column("Address"),
    output.Column("Goes", lambda fate: "yes" if fate.get("goes") else "no"),
    output.column("Kept because", "reason", cut=True),
    output.column("Size"),
    output.Column("Age", lambda fate: output.age(fate.get("created"))),
)


@app.command(
    name="set",
    epilog=options.examples(
        "fuseml artifact retention set -p demo --kind model --newest 5", "fuseml artifact retention set -p demo --kind dataset --days 30"
    ),
)
def set_(
    context: typer.Context,
    kind: Kind,
    project: options.Project = "",
    newest: Newest = None,
    days: Days = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Set the policy of a kind of a project.

    An artifact stays for either number. What is tagged, served, or in the lock of a run whose results are kept stays in any case. All else is
    removed by itself, with its contents; `fuseml artifact prune --dry-run` shows it first.
    """
    client = session.connect(context)
    policy = client.retention.set(project or client.projects.only(), kind, newest=newest, days=days)
    kept = " and ".join(
        [
            *([f"the newest {policy['newest']} of each name"] if policy["newest"] else []),
            *([f"those of the last {policy['days']} days"] if policy["days"] else []),
        ]
    )
    output.done(format, policy, f"The project {policy['project']} keeps of its {policy['kind']} artifacts {kept}.")


@app.command(epilog=options.examples("fuseml artifact retention show", "fuseml artifact retention show -p demo -o json"))
def show(context: typer.Context, project: options.Project = "", kind: Kind = "", format: options.Output = output.Format.TABLE) -> None:
    """Show the policies. Without a policy everything stays."""
    policies = session.connect(context).retention.policies(project, kind)
    output.listing(format, policies, _POLICIES, "There is no policy, so everything stays; `fuseml artifact retention set` makes one.")


@app.command(epilog=options.examples("fuseml artifact retention remove -p demo --kind model"))
def remove(context: typer.Context, kind: Kind, project: options.Project = "") -> None:
    """Remove the policy of a kind of a project. All its artifacts stay from now on."""
    client = session.connect(context)
    project = project or client.projects.only()
    client.retention.remove(project, kind)
    terminal.echo(f"The project {project} keeps all of its {kind} artifacts.")


def prune(
    context: typer.Context,
    project: options.Project = "",
    kind: Kind = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the artifacts that go.")] = False,
    kept: Annotated[bool, typer.Option("--kept", help="Show also those that stay, with the reason.")] = False,
    newest: Annotated[
        int | None, options.option("--newest", min=1, metavar="N", help="With --dry-run: as if this were the policy.")
    ] = None,
    days: Annotated[int | None, options.option("--days", min=1, metavar="D", help="With --dry-run: as if this were the policy.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without confirmation.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Remove the artifacts that no policy keeps, now.

    It shows them and asks. Exactly those are removed, except for one that was tagged, served or used meanwhile. The contents follow within
    the next hours, where FuseML wrote them; lineage and history stay.
    """
    from fuseml.client.retention import BATCH

    retention = session.connect(context).retention
    if not dry_run and (newest or days):
        raise errors.InvalidError("--newest and --days only try a policy, with --dry-run; `fuseml artifact retention set` sets it")
    fates = list(retention.fates(project, kind, kept=kept, newest=newest, days=days))
    going = [fate["address"] for fate in fates if fate["goes"]]
    if dry_run or not going:
        nothing = (
            "No artifact goes."
            if newest or days or retention.policies(project, kind)
            else "There is no policy; `fuseml artifact retention set` makes one."
        )
        output.listing(format, fates, _FATES, nothing)
        return
    if not yes:
        _confirm(fates, going)
    decided = [fate for start in range(0, len(going), BATCH) for fate in retention.prune(going[start : start + BATCH])]
    if format is not output.Format.TABLE:
        output.dump(format, decided)
        return
    stayed = [fate for fate in decided if not fate["goes"]]
    removed = len(decided) - len(stayed)
    terminal.echo(f"{removed} artifact{'s' if removed != 1 else ''} removed.")
    if stayed:
        output.table(stayed, _FATES)


def _confirm(fates: Sequence[options.Item], going: Sequence[str]) -> None:
    output.table(fates, _FATES)
    try:
        terminal.confirm(f"Remove {len(going)} artifact{'s' if len(going) != 1 else ''} for ever?")
    except typer.Abort:
        raise errors.PermanentError("nothing was removed; answer y or pass --yes to remove the artifacts") from None
