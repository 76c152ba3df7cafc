"""`fuseml workflow lint`: problems of workflow documents; a reachable server also checks them against its registry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes

Files = Annotated[
    list[str], typer.Argument(help="Workflow documents, YAML or JSON; `-` is standard input.", metavar="FILE...", show_default=False)
]


def lint(
    context: typer.Context,
    files: Files,
    project: options.Project = "",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings, too.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Check without a server.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Check workflow documents; nothing is stored.

    A reachable server also resolves the selectors. A note says what a push
    serves. Exit code 1 on errors, with --strict on warnings, too.
    """
    client = None if offline else session.connect(context)
    results: list[dict[str, object]] = []
    for file in files:
        text = session.read(file)
        findings = _offline(text)
        if client and not any(finding["level"] == "error" for finding in findings):
            try:
                findings = client.workflows.lint(text, project)
            except (errors.TemporaryError, errors.UnauthenticatedError, errors.ForbiddenError) as error:
                terminal.echo(f"Selectors are not checked: {error.message}", err=True)
                client = None
        results += [{"file": "<stdin>" if file == "-" else file, **finding} for finding in findings]
    if format is output.Format.TABLE:
        for item in results:
            terminal.echo(_line(item))
        terminal.echo(_summary(results, len(files)), err=True)
    else:
        output.dump(format, results)
    if any(item["level"] == "error" or (strict and item["level"] == "warning") for item in results):
        raise typer.Exit(1)


def _offline(text: str) -> list[shapes.Finding]:
    from fuseml.domain.workflows.lint import lint_text

    return [dataclasses.asdict(finding) for finding in lint_text(text)]  # type: ignore[misc]  # the same fields, checked by a test


def _line(item: dict[str, object]) -> str:
    """`file:line:column: level: path: message`, the format of compilers, which editors parse."""
    place = ":".join(str(item[key]) for key in ("file", "line", "column") if item.get(key))
    message = " ".join(str(item["message"]).split())
    hint = f" (did you mean {item['suggestion']!r}?)" if item.get("suggestion") else ""
    return ": ".join(str(part) for part in (place, item["level"], item.get("path"), message) if part) + hint


def _summary(results: list[dict[str, object]], files: int) -> str:
    count = {level: sum(item["level"] == level for item in results) for level in ("error", "warning")}
    counts = [f"{number} {level}{'' if number == 1 else 's'}" for level, number in count.items() if number]
    return f"{', '.join(counts) or 'No problem'} in {files} {'file' if files == 1 else 'files'}."
