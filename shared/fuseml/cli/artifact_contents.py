"""`fuseml artifact push|pull|open`: contents between this machine and the stores, which no function carries."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import completion, options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.artifactstores import ArtifactStore, Opened, Source
    from fuseml.client import shapes, store_shapes
    from fuseml.client.api import Client

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
    from fuseml.artifactstores import About, folders

    client = session.connect(context)
    artifacts, project = client.artifacts, project or only_project(client)
    sources = folders.sources(path)
    access = artifacts.place(kind, project, name)
    store = store_of(context, access, project)
    with _progress("Storing", sum((path if path.is_file() else path / item.path).stat().st_size for item in sources), 2) as advance:
        place = store.place(kind, project, name)
        digest = store.write(place, [_counted(item, advance) for item in sources])
        address = store.commit(place, digest, About(format=content_format))
    described, location = store.describe(address), store.locate(address)
    descriptor: shapes.Descriptor = {
        "address": str(address),
        "type": content_type or None,
        "format": content_format or None,
        "digest": described.digest or None,
        "size": described.size,
        "location": location.uri,
        "metadata": {"store": access["store"]},
    }
    registered = artifacts.register(descriptor)
    if tag:
        registered = artifacts.tag(str(address), tag)
    output.done(format, registered, f"{address} is stored in {access['store']} and registered.")


def pull(
    context: typer.Context,
    address: Address,
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.", metavar="FOLDER", show_default=False)],
) -> None:
    """Write the contents of an artifact into a folder, verified.

    The folder appears when it is complete.
    """
    from fuseml.artifactstores import folders
    from fuseml.domain import artifact

    folders.check_new(to)
    found = session.connect(context).artifacts.location(address)
    exact = artifact.Address.parse(found["address"])
    with _progress("Fetching", found["size"] or 0) as advance:
        opened = folders.download(store_of(context, found, exact.project), exact, to, lambda opened: _observed(opened, advance))
    terminal.echo(f"{exact}: {len(opened.files)} file{'s' if len(opened.files) != 1 else ''} in {to}.")


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


def only_project(client: Client) -> str:
    """The project, where there is one. Raises InvalidError where there are several or none."""
    names = [project["name"] for project in client.projects.list()]
    if len(names) != 1:
        raise errors.InvalidError(
            f"name the project with --project; {'there are ' + ', '.join(names[:5]) if names else 'there is none yet'}"
        )
    return names[0]


def store_of(context: typer.Context, access: store_shapes.StoreAccess, project: str) -> ArtifactStore:
    """The store. Raises PermanentError if it is a folder of another machine."""
    from fuseml import artifactstores
    from fuseml.artifactstores import reach
    from fuseml.contents import trackers

    environment, settings = access["environment"], session.settings(context)
    # The tracking server of `fuseml up` is a part of the configured server, so it takes the user's own token, which no other server gets.
    if access["resource"] == trackers.RESOURCE and access["url"].startswith(f"{settings.server_url().rstrip('/')}/"):
        environment = {"MLFLOW_TRACKING_TOKEN": settings.access_token() or "", **environment}
    connection = artifactstores.Connection(access["resource"], access["url"], environment, project)
    reach.check(connection)
    return artifactstores.connect(connection)


def _counted(source: Source, advance: Callable[[int], None]) -> Source:
    def blocks() -> Iterator[bytes]:
        for block in source.blocks():
            yield block
            advance(len(block))

    return dataclasses.replace(source, blocks=blocks)


def _observed(opened: Opened, advance: Callable[[int], None]) -> Opened:
    def fetch(file: object) -> Iterator[bytes]:
        for block in opened.fetch(file):  # type: ignore[arg-type]
            yield block
            advance(len(block))

    return dataclasses.replace(opened, fetch=fetch)


@contextlib.contextmanager
def _progress(title: str, size: int, passes: int = 1) -> Iterator[Callable[[int], None]]:
    """A bar for people; nothing for programs. `passes` is how often each byte is read at most."""
    if not sys.stderr.isatty() or not size:
        yield lambda _: None
        return
    from rich import progress

    columns: Sequence[progress.ProgressColumn] = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
    )
    with progress.Progress(*columns, console=output.console(err=True), transient=True) as bar:
        task = bar.add_task(title, total=size)
        yield lambda number: bar.advance(task, number / passes)
