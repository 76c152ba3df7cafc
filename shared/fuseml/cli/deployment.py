"""`fuseml install`, `upgrade` and `uninstall`, and the cluster's part of `fuseml status`: FuseML itself on a cluster, as `task deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.deployment.prerequisites import Prerequisite

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the prerequisites and the plan.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for a confirmation.")]

_PREREQUISITES = (
    output.Column("Prerequisite", output.field("name"), fold=True),
    output.column("State", states=True),
    output.column("Detail", cut=True),
    output.column("Remedy", cut=True),
)
_PLAN = (output.column("Part"), output.column("Action"), output.column("Detail", cut=True))
_STATE = (output.column("Part"), output.column("State", states=True), output.column("Detail", cut=True))


def install(context: typer.Context, dry_run: DryRun = False, yes: Yes = False, format: options.Output = output.Format.TABLE) -> None:
    """Deploy FuseML to the cluster of your kubeconfig.

    Shows the prerequisites and the plan first. Takes the options of
    `task deploy`, such as --image and --registry; `-- --help` lists them.
    An interrupted installation continues.
    """
    _deploy(context, dry_run=dry_run, yes=yes, format=format, upgrade=False)


def upgrade(context: typer.Context, dry_run: DryRun = False, yes: Yes = False, format: options.Output = output.Format.TABLE) -> None:
    """Bring FuseML on a cluster to the version of this command.

    As `fuseml install`, for a cluster that has FuseML.
    """
    _deploy(context, dry_run=dry_run, yes=yes, format=format, upgrade=True)


def uninstall(context: typer.Context, yes: Yes = False) -> None:
    """Remove FuseML from a cluster, with all its data.

    The cluster is that of your kubeconfig.
    """
    from fuseml.deployment import command, prerequisites

    found = prerequisites.check()
    prerequisite = next((each for each in found if each.name in ("kubectl", "cluster") and each.state == "missing"), None)
    if prerequisite:
        raise errors.PermanentError(f"{prerequisite.detail}; {prerequisite.remedy}")
    raise typer.Exit(command.main(["undeploy", *(["--yes"] if yes else []), *context.args], session.settings(context).environment))


def status(format: output.Format) -> None:
    """Print the state of FuseML on the cluster; exit with 1 unless every part is ready."""
    from fuseml.deployment import cluster, planning, prerequisites

    found = prerequisites.check()
    _show_prerequisites(found, format, only_faults=True)
    if any(each.name in ("kubectl", "cluster") and each.state == "missing" for each in found):
        raise typer.Exit(1)
    try:
        rows = planning.state() if planning.is_deployed() else []
    except cluster.DeployError as error:
        raise errors.PermanentError(str(error)) from None
    output.listing(format, rows, _STATE, "FuseML is not on this cluster; `fuseml install` deploys it.")
    if not rows or any(row["state"] != "ready" for row in rows):
        raise typer.Exit(1)


def _deploy(context: typer.Context, *, dry_run: bool, yes: bool, format: output.Format, upgrade: bool) -> None:
    import argparse

    from fuseml.deployment import cluster, command, planning, prerequisites

    environment = session.settings(context).environment
    # Wrong options, --help and --list-images end here or need no plan.
    parsed = command.parser(f"fuseml {'upgrade' if upgrade else 'install'}").parse_args(
        ["deploy", *context.args], argparse.Namespace(environment=environment)
    )
    if parsed.list_images:
        raise typer.Exit(command.main(["deploy", *context.args], environment))
    found = prerequisites.check()
    _show_prerequisites(found, format, only_faults=False)
    missing = [each.name for each in found if each.state == "missing"]
    if missing:
        raise errors.PermanentError(f"nothing was changed; prerequisites are missing: {', '.join(missing)}")
    try:
        is_deployed = planning.is_deployed()
        if upgrade and not is_deployed:
            raise errors.NotFoundError("FuseML is not on this cluster; `fuseml install` deploys it")
        stored = cluster.data("configmap", "fuseml")
        installed = command.chosen_images(parsed, stored)
        services = cluster.render(command.functions_folder(parsed), installed)
        given = {name: environment.get(name, "") for name in command.SECRETS}
        plan = planning.plan(services, given, {name: value for name in command.OPTIONS if (value := vars(parsed)[name])})
    except cluster.DeployError as error:
        raise errors.PermanentError(str(error)) from None
    if format is output.Format.TABLE:
        terminal.echo()
    output.listing(format, plan, _PLAN, "")
    if dry_run:
        return
    if not yes:
        try:
            terminal.confirm(f"{'Upgrade' if is_deployed else 'Install'} FuseML on this cluster?")
        except typer.Abort:
            raise errors.PermanentError("nothing was changed; answer y or pass --yes") from None
    raise typer.Exit(command.main(["deploy", *context.args], environment))


def _show_prerequisites(found: Sequence[Prerequisite], format: output.Format, *, only_faults: bool) -> None:
    import dataclasses

    rows = [dataclasses.asdict(each) for each in found if not (only_faults and each.state == "ok")]
    if rows and format is output.Format.TABLE:
        output.table(rows, _PREREQUISITES)
    elif format is not output.Format.TABLE:
        for row in rows:
            if row["state"] != "ok":
                terminal.echo(f"{row['name']}: {row['state']}: {row['detail']}; {row['remedy']}", err=True)
