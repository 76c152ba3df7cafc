"""Attack a server of this machine, or one of its own in a temporary home, with generated requests, pushes and documents.

    python -m tests.attack [--url http://127.0.0.1:8000 --token TOKEN] [--only paths,git] [--cases 200] [--seed N] [-o table|json]

The exit code is 1 if an attack succeeds, or cannot be made. The attacks leave projects, codesets and workflows behind, start runs, and take what
a server has: use a server that you can lose.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import random
import sys
import tempfile
from collections.abc import Sequence

import rich.console
import rich.markup
import rich.table

from fuseml.cli import terminal
from tests.attack import campaign
from tests.attack.target import Target, loopback_port
from tests.embedded import servers

_COLOURS = {"defended": "green", "succeeded": "bold red", "broken": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks that the arguments choose; the exit code."""
    given = _options(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if given.url:
            return _attack(Target(given.url, given.token, folder, seed=given.seed, cases=given.cases), given)
        with servers.running(folder / "home", "--mlflow", "none") as server:
            return _attack(Target(server.url, server.token, folder, seed=given.seed, cases=given.cases), given)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="task attack --", description=description)
    parser.add_argument("--url", default="", help="of the server: http:// and a loopback address")
    parser.add_argument("--token", default="", help="of its administrator")
    parser.add_argument("--only", default="", help=f"borders, comma separated: {', '.join(campaign.BORDERS)}")
    parser.add_argument("--quick", action="store_true", help="leave out the attacks that start many processes or wait for bounds of time")
    parser.add_argument("--cases", type=int, default=200, help="most cases of a generated family (default 200)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="equal seeds make equal cases")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args(arguments)
    given.only = given.only.split(",") if given.only else list(campaign.BORDERS)
    if unknown := set(given.only) - campaign.BORDERS.keys():
        parser.error(f"there is no border {', '.join(sorted(unknown))}; the borders are {', '.join(campaign.BORDERS)}")
    if bool(given.url) != bool(given.token):
        parser.error("--url and --token belong together; without both, the attacks start a server of their own")
    if given.cases < 1:
        parser.error("--cases must be 1 or more")
    if given.url:
        try:
            loopback_port(given.url)
        except ValueError as error:
            parser.error(str(error))
    return given


def _attack(target: Target, given: argparse.Namespace) -> int:
    progress = rich.console.Console(stderr=True, highlight=False)
    progress.print(f"seed {given.seed}, at most {given.cases} cases of a family, against {target.url}")
    results = list(campaign.run(target, given.only, slow=not given.quick, follow=lambda name: progress.print(f"  {name}")))
    if given.output == "json":
        json.dump({"seed": given.seed, "results": [dataclasses.asdict(result) for result in results]}, sys.stdout, indent=2)
        print()
    else:
        rich.console.Console(highlight=False).print(_table(results))
    return 0 if all(result.result == "defended" for result in results) else 1


def _table(results: Sequence[campaign.Result]) -> rich.table.Table:
    table = rich.table.Table("attack", "holds", "result", box=None, padding=(0, 2, 0, 0), title_justify="left")
    for result in results:
        evidence = f": {rich.markup.escape(terminal.inert(result.evidence)[:400])}" if result.evidence else ""
        table.add_row(result.attack, result.holds, f"[{_COLOURS[result.result]}]{result.result}[/]{evidence}")
    return table


if __name__ == "__main__":
    sys.exit(main())
