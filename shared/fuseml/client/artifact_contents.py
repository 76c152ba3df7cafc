"""Contents of artifacts, between this machine and the stores: no function carries them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.domain import artifact

if TYPE_CHECKING:
    from fuseml.artifactstores import ArtifactStore, File, Opened, Source
    from fuseml.client import shapes, store_shapes
    from fuseml.client.api import Client

Watch = Callable[[int], Callable[[float], None]]
"""Takes the number of bytes to move, which is 0 if unknown, and returns the receiver of the numbers of moved bytes."""

# Each byte is read twice at most: for the digest, and for the store.
_PASSES = 2


def unwatched(_size: int) -> Callable[[float], None]:
    """The receiver that ignores what it gets."""
    return lambda _moved: None


def push(
    client: Client,
    path: Path,
    kind: str,
    name: str,
    *,
    project: str,
    type: str = "",
    format: str = "",
    watch: Watch = unwatched,
) -> shapes.Artifact:
    """Store a file or folder as an artifact, and register it. A repetition stores what is missing; equal contents are the same version.

    Raises NotFoundError for a missing place, InvalidError for a folder without files, UnresolvedError without a store.
    """
    from fuseml.artifactstores import About, folders

    sources = folders.sources(path)
    access = client.artifacts.place(kind, project, name)
    store = store_of(client, access, project)
    advance = watch(sum((path if path.is_file() else path / item.path).stat().st_size for item in sources))
    place = store.place(kind, project, name)
    digest = store.write(place, [_counted(item, lambda number: advance(number / _PASSES)) for item in sources])
    address = store.commit(place, digest, About(format=format))
    described, location = store.describe(address), store.locate(address)
    return client.artifacts.register(
        {
            "address": str(address),
            "type": type or None,
            "format": format or None,
            "digest": described.digest or None,
            "size": described.size,
            "location": location.uri,
            "metadata": {"store": access["store"]},
        }
    )


def pull(client: Client, address: str, to: Path, *, watch: Watch = unwatched) -> Opened:
    """Write the contents of an artifact into a new or empty folder, verified; the folder appears when it is complete.

    Raises ConflictError for a folder that is not empty, NotFoundError for an unknown artifact, InvalidError for one whose contents no store has.
    """
    from fuseml.artifactstores import folders

    folders.check_new(to)
    found = client.artifacts.location(address)
    exact = artifact.Address.parse(found["address"])
    advance = watch(found["size"] or 0)
    return folders.download(store_of(client, found, exact.project), exact, to, lambda opened: _observed(opened, advance))


def store_of(client: Client, access: store_shapes.StoreAccess, project: str) -> ArtifactStore:
    """The store. Raises PermanentError if it is a folder of another machine."""
    from fuseml import artifactstores
    from fuseml.artifactstores import reach
    from fuseml.contents import trackers

    environment = access["environment"]
    # The tracking server of `fuseml up` is a part of the server, so it takes the user's own token, which no other server gets.
    if access["resource"] == trackers.RESOURCE and access["url"].startswith(f"{client.url}/"):
        environment = {"MLFLOW_TRACKING_TOKEN": client.token or "", **environment}
    connection = artifactstores.Connection(access["resource"], access["url"], environment, project)
    reach.check(connection)
    return artifactstores.connect(connection)


def _counted(source: Source, advance: Callable[[float], None]) -> Source:
    def blocks() -> Iterator[bytes]:
        for block in source.blocks():
            yield block
            advance(len(block))

    return dataclasses.replace(source, blocks=blocks)


def _observed(opened: Opened, advance: Callable[[float], None]) -> Opened:
    def fetch(file: File) -> Iterator[bytes]:
        for block in opened.fetch(file):
            yield block
            advance(len(block))

    return dataclasses.replace(opened, fetch=fetch)
