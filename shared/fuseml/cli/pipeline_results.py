"""`fuseml pipeline results`: the runs that a code version led to, with what they took and what they made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

app = typer.Typer(help="The results of pipelines: what was made of a code version.", **options.GROUP)

# The digits of a commit that git shows, too; `--code` takes them.
_COMMIT = re.compile(r"(code://\S+/[0-9a-f]{7})[0-9a-f]{33,57}")
_LONGEST = 200


def _inputs(item: Mapping[str, Any]) -> str:
    """The inputs, and then the services that the selectors of the steps resolved to, one a line."""
    bound = {f"{binding['name']}: {binding['extension_id']} (bound)": None for binding in item["bindings"]}
    return "\n".join([*(_line(value) for value in item["inputs"]), *bound])


def _outputs(item: Mapping[str, Any]) -> str:
    return "\n".join(_line(value) for value in item["outputs"])


def _line(item: Mapping[str, object]) -> str:
    from fuseml.domain.runs.causes import shorten

    value = " ".join(_shortened(word) for word in str(item["address"] or item["value"]).split())
    return f"{item['name']}: {shorten(value, _LONGEST)}{' (default)' if item.get('default') else ''}"


def _shortened(word: str) -> str:
    """The word; of the address of code, with the first digits of the commit."""
    match = _COMMIT.fullmatch(word)
    return match[1] if match else word


def _name(item: Mapping[str, object]) -> str:
    return f"{item['workflow']}/{item['number']}"


def _state(item: Mapping[str, object]) -> object:
    return None if item["state"] == "succeeded" else item["state"]


_COLUMNS = (
    output.Column("Pipeline/Run", _name),
    output.Column("State", _state, states=True),
    output.Column("Inputs", _inputs, fold=True),
    output.Column("Outputs", _outputs, fold=True),
)


@app.command(
    epilog=options.examples(
        "fuseml pipeline results show --current-code --recursive",
        "fuseml pipeline results show -p demo -c diabetes --recursive",
        "fuseml pipeline results show --code code://demo/diabetes/f3b0924 --recursive",
    )
)
def show(
    context: typer.Context,
    code: Annotated[str, options.option("--code", metavar="ADDRESS", help="A code version; 7 digits of the commit suffice.")] = "",
    current_code: Annotated[bool, typer.Option("--current-code", help="The newest version of each codeset (default).")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Also the runs that took what these made, and so on.")] = False,
    project: options.Project = "",
    codeset: Annotated[str, options.option("--codeset", "-c", help="Only of this codeset.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the runs that took a code version, with inputs and outputs.

    Without a code version, the newest of each codeset of the project. An input
    may be a default of the workflow, or a service that a selector was bound
    to. A run that has not succeeded shows its state.
    """
    if code and current_code:
        raise errors.InvalidError("--code and --current-code exclude each other; leave one of them out")
    # The address names the project itself.
    project = project if not code or options.is_given(context, "project") else ""
    if not (code or project):
        raise errors.InvalidError("name the project with -p; `fuseml project set NAME` makes it the default")
    found = list(session.connect(context).runs.results(project=project, codeset=codeset, code=code, recursive=recursive, limit=limit))
    output.listing(format, found, _COLUMNS, _empty(code, project, codeset))
    if format is output.Format.TABLE:
        for item in found:
            if item["cause"]:
                terminal.echo(f"\n{_name(item)} {item['state']}: {output.reason(item)}")


def _empty(code: str, project: str, codeset: str) -> str:
    place = code or f"the current code of {'/'.join(filter(None, (project, codeset)))}"
    return f"No run took {place}; `fuseml why COMMIT` shows the reason."
