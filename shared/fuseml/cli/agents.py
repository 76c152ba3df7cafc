"""`fuseml agent`: conformance of agents."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

app = typer.Typer(help="Agents: services that attach a tool to FuseML.", **options.GROUP)

_COLUMNS = (output.column("Result", states=True), output.column("Rule"), output.column("Detail", cut=True))


@app.command(
    no_args_is_help=True,
    epilog=options.examples(
        "fuseml agent check https://jobs.example --parameter epochs=1 -o json",
        "FUSEML_AGENT_TOKEN=... fuseml agent check http://127.0.0.1:8090",
    ),
)
def check(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="URL of a running store or workload agent.")],
    parameter: Annotated[
        list[str] | None, options.option("--parameter", metavar="NAME=VALUE", help="Parameter of the jobs of a workload agent.")
    ] = None,
    patience: Annotated[
        float, options.option("--patience", metavar="SECONDS", min=1, help="Time that one job may take; 60 by default.")
    ] = 60.0,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Check that an agent keeps the rules of its protocol. The token of the agent is FUSEML_AGENT_TOKEN.

    A store gets versions of the project fuseml-conformance, and loses them again where it can delete; a workload runs some jobs. The exit code is 1
    if a rule is broken.
    """
    from fuseml.agents import conformance, store_conformance, workload_conformance
    from fuseml.runtime import agent_calls

    token = session.settings(context).environment.get(agent_calls.TOKEN, "")
    if not token:
        raise errors.InvalidError(f"set {agent_calls.TOKEN} to the token of the agent")
    pairs = [text.partition("=") for text in parameter or []]
    if any(not (name and sign) for name, sign, _ in pairs):
        raise errors.InvalidError("a --parameter is NAME=VALUE")
    if conformance.kind_of(url) == "store":
        checks = store_conformance.StoreChecks(url, token).all()
    else:
        parameters = {name: value for name, _, value in pairs}
        checks = workload_conformance.WorkloadChecks(url, token, parameters, patience).all()
    results = conformance.checked(checks)
    output.listing(format, [dataclasses.asdict(result) for result in results], _COLUMNS, "")
    failed = sum(result.result == "failed" for result in results)
    if format is output.Format.TABLE:
        passed = sum(result.result == "passed" for result in results)
        terminal.echo(f"\n{passed} passed, {failed} failed, {len(results) - passed - failed} skipped", err=True)
    if failed:
        raise typer.Exit(1)
