"""`fuseml artifact push|pull|open`: contents between this machine and the stores, which no function carries."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import completion, options, output, session, terminal

if TYPE_CHECKING:
    from fuseml.client.artifact_contents import Watch

Address = Annotated[
    str,
    typer.Argument(
        help="kind://project/name/version, or @TAG for the version",
        metavar="ADDRESS",
        show_default=False,
        autocompletion=completion.artifacts,
    ),
]


def push(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A file or a folder.", metavar="PATH", show_default=False)],
    kind: Annotated[str, options.option("--kind", "-k", help="dataset, model or runnable.")],
    name: Annotated[str, options.option("--name", "-n", help="The name in the address.")],
    project: options.Project = "",
    content_type: Annotated[str, options.option("--content-type", help="Media type of the contents.")] = "",
    content_format: Annotated[str, options.option("--content-format", help="Format of the contents: csv, onnx.")] = "",
    tag: Annotated[str, options.option("--tag", help="A tag to put on the version.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Store a file or folder as an artifact, and register it.

    The contents go from here to the project's store. A repetition stores what is missing; equal contents are the same version.
    """
    from fuseml.client import artifact_contents

    client = session.connect(context)
    with _progress("Storing") as watch:
        registered = artifact_contents.push(
            client,
            path,
            kind,
            name,
            project=project or client.projects.only(),
            type=content_type,
            format=content_format,
            watch=watch,
        )
    address, store = registered["address"], registered["metadata"]["store"]
    if tag:
        registered = client.artifacts.tag(address, tag)
    output.done(format, registered, f"{address} is stored in {store} and registered.")


def pull(
    context: typer.Context,
    address: Address,
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.", metavar="FOLDER", show_default=False)],
) -> None:
    """Write the contents of an artifact into a folder, verified.

    The folder appears when it is complete.
    """
    from fuseml.client import artifact_contents

    with _progress("Fetching") as watch:
        opened = artifact_contents.pull(session.connect(context), address, to, watch=watch)
    terminal.echo(f"{opened.address}: {len(opened.files)} file{'s' if len(opened.files) != 1 else ''} in {to}.")


def open_(
    context: typer.Context,
    address: Address,
    browse: Annotated[bool, typer.Option("--browse", help="Open it in a browser, too.")] = False,
) -> None:
    """Print the address at which the tool shows an artifact."""
    page = session.connect(context).artifacts.page(address)
    terminal.echo(page["url"])
    if browse:
        typer.launch(page["url"])


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Watch]:
    """A bar for people; nothing for programs, and where the number of bytes is unknown."""
    from fuseml.client import artifact_contents

    if not sys.stderr.isatty():
        yield artifact_contents.unwatched
        return
    from rich import progress

    columns: Sequence[progress.ProgressColumn] = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
    )
    with progress.Progress(*columns, console=output.console(err=True), transient=True) as bar:

        def watch(size: int) -> Callable[[float], None]:
            if not size:
                return artifact_contents.unwatched(size)
            task = bar.add_task(title, total=size)
            return lambda number: bar.advance(task, number)

        yield watch
