"""`fuseml extension install` and `uninstall`: tools on the cluster of the user's kubeconfig, by the user's own helm and kubectl."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client.extensions import Extensions
    from fuseml.installing import folders, programs
    from fuseml.installing import plan as plans

_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_COLUMNS = (
    output.column("Tool"),
    output.column("Version"),
    output.column("Step", cut=True),
    output.column("Namespace"),
    output.column("State", states=True),
)
Place = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="A tool that ships, or a folder with a description.yaml.", show_default=False)
]
Zone = Annotated[str | None, options.option("--zone", "-z", help="Zone of the record; by default that of the cluster.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for a confirmation.")]
AllowScripts = Annotated[bool, typer.Option("--allow-scripts", help="Execute the scripts of the description without a question.")]
NoRegister = Annotated[bool, typer.Option("--no-register", help="Leave the registry as it is.")]


def install(
    context: typer.Context,
    place: Place,
    zone: Zone = None,
    domain: Annotated[str, options.option("--domain", help="Domain of addresses outside, where Istio serves them.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Repeat all steps of an installed tool.")] = False,
    no_register: NoRegister = False,
    allow_scripts: AllowScripts = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Install a tool on your cluster, and register it.

    The cluster is that of your kubeconfig. Tools that it requires come first.
    The record gets its addresses and
    accounts from the cluster. An interrupted installation continues where it
    ended; an installed tool is only registered again.
    """
    from fuseml.installing import folders, installer, ledger, plan, programs, registering

    tools = folders.with_requirements(folders.tool(place))
    runner = programs.Programs(session.settings(context).environment)
    runner.check(["kubectl"])
    book = ledger.Ledger(runner)
    planned = plan.plan(tools, book.entries(), plan.definitions(runner, tools), again=again)
    runner.check(plan.needed(planned))
    _check_domain(domain)
    extensions = None if no_register else session.connect(context).extensions
    if extensions is not None:
        for item in planned:
            if item.state != "present":
                _check_record(extensions, item.tool)
    chosen = "" if no_register else _zone(runner, zone)
    rows = [row for row in plan.rows(planned) if not (no_register and row["step"] == "record in the registry")]
    output.listing(format, rows, _COLUMNS, "")
    if format is output.Format.TABLE:
        terminal.echo(_target(runner))
        _describe(planned, chosen, registers=not no_register, domain=domain)
    if dry_run:
        return
    _confirm(f"Install {', '.join(item.tool.name for item in planned if item.state != 'present')}?", yes=yes)
    _consent(plan.scripts(planned), allowed=allow_scripts)

    def register(tool: folders.Tool) -> None:
        if extensions is not None:
            record = registering.read(runner, tool.description, chosen, domain)
            terminal.echo(_store(extensions, record.model_dump(mode="json", exclude_defaults=True), tool.name), err=True)

    worker = installer.Installer(runner, book, _progress, register, domain)
    with _resumable():
        for item in planned:
            worker.install(item)
    _done(format, f"{planned[-1].tool.name} is installed.")


def uninstall(
    context: typer.Context,
    place: Place,
    with_requirements: Annotated[
        bool, typer.Option("--with-requirements", "--with-dependencies", help="Also tools that only this one requires.")
    ] = False,
    force: options.Force = False,
    no_register: NoRegister = False,
    allow_scripts: AllowScripts = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Remove a tool that `fuseml extension install` has installed.

    The steps are taken back in reverse order; the namespaces that were made
    for the tool are deleted with their data. An interrupted removal continues.
    """
    from fuseml.installing import ledger, programs, removal

    runner = programs.Programs(session.settings(context).environment)
    runner.check(["kubectl"])
    book = ledger.Ledger(runner)
    entries = book.entries()
    removals = removal.plan(place, entries, with_requirements=with_requirements)
    runner.check(removal.programs(removals))
    extensions = None if no_register else session.connect(context).extensions
    if extensions is not None:
        # Before anything is removed: the server must answer, and may refuse.
        known = {record["id"] for record in extensions.list()}
        _check_unused(extensions, [item.name for item in removals if item.name in known], force=force)
    output.listing(format, removal.rows(removals, registered=not no_register), _COLUMNS, "")
    if format is output.Format.TABLE:
        terminal.echo(_target(runner))
    if dry_run:
        return
    _confirm(f"Remove {', '.join(item.name for item in removals)}?", yes=yes)
    _consent(removal.scripts(removals), allowed=allow_scripts)
    unregister = _unregister(extensions, force=force) if extensions is not None else None
    worker = removal.Remover(runner, book, _progress, unregister)
    with _resumable():
        for item in removals:
            entries.pop(item.name)
            worker.remove(item, entries)
    _done(format, f"{removals[0].name} is removed.")


def _unregister(extensions: Extensions, *, force: bool) -> Callable[[str], None]:
    def unregister(name: str) -> None:
        try:
            extensions.delete(name, force=force)
            terminal.echo(f"{name} record is deleted", err=True)
        except errors.NotFoundError:
            pass  # deleted before

    return unregister


def _check_unused(extensions: Extensions, names: Sequence[str], *, force: bool) -> None:
    from fuseml.cli import impact

    for name in [] if force else names:
        broken = impact.breaks(extensions.plan_deletion(name))
        if broken:
            raise errors.ConflictError(f"{broken[0]['sentence']}; change the workflow first, or pass --force")


def _check_domain(domain: str) -> None:
    if domain and not _DOMAIN.fullmatch(domain):
        raise errors.InvalidError(f"{domain[:80]!r} is no domain; write it as apps.example.com")


def _check_record(extensions: Extensions, tool: folders.Tool) -> None:
    """Raises ConflictError if the registry has another tool of this name."""
    try:
        record = extensions.get(tool.name)
    except errors.NotFoundError:
        return
    product = tool.description.product or tool.name
    if record.get("product") != product:
        raise errors.ConflictError(
            f"the registry has an extension {tool.name} of the product {record.get('product')!r}, not {product!r}; delete it, or pass --no-register"
        )


def _store(extensions: Extensions, record: dict[str, Any], name: str) -> str:
    try:
        extensions.register(record)
    except errors.ConflictError:
        extensions.update(name, record)
        return f"{name} record is updated"
    return f"{name} record is registered"


def _zone(runner: programs.Programs, zone: str | None) -> str:
    from fuseml.installing import discovery

    return discovery.zone(runner) if zone is None else zone


def _target(runner: programs.Programs) -> str:
    try:
        context = runner.kubectl("config", "current-context").strip()
    except errors.PermanentError:
        return "\nThe cluster is the one that this pod runs in."
    return f"\nThe cluster is that of the context {context}."


def _describe(planned: Sequence[plans.PlannedTool], zone: str, *, registers: bool, domain: str) -> None:
    if registers:
        terminal.echo(f"The records are of the zone {zone!r}." if zone else "The records are of the zone of the server.")
    for item in planned:
        for source in item.tool.description.sources() if item.state == "install" else ():
            terminal.echo(f"{item.tool.name} is fetched from {source}")
        for rule in item.tool.description.rolerules if item.state == "install" else ():
            words = f"{', '.join(rule.verbs)} {', '.join(rule.resources)} of {', '.join(group or 'core' for group in rule.apigroups)}"
            terminal.echo(f"{item.tool.name} gives the steps of runs the right to {words}.")
        if item.tool.description.gateways and not domain and item.state == "install":
            terminal.echo(f"{item.tool.name} gets no address outside of the cluster; --domain DOMAIN gives it one, where Istio runs.")


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        try:
            terminal.confirm(question)
        except typer.Abort:
            raise errors.PermanentError("nothing was changed; answer y or pass --yes") from None


def _consent(scripts: Sequence[str], *, allowed: bool) -> None:
    """Scripts are text from outside that is executed on this machine: --yes alone does not allow them."""
    if scripts and not allowed:
        try:
            terminal.confirm(f"Execute these scripts on this machine, with your rights? {', '.join(scripts)}")
        except typer.Abort:
            raise errors.PermanentError(
                f"nothing was changed; read {', '.join(scripts)}, and answer y or pass --allow-scripts to execute them"
            ) from None


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        terminal.echo("interrupted; run the same command again to continue", err=True)
        raise


def _progress(line: str) -> None:
    terminal.echo(line, err=True)


def _done(format: output.Format, sentence: str) -> None:
    if format is output.Format.TABLE:
        terminal.echo(sentence)
