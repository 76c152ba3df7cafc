"""The shipped store agent: artifacts of any kind in a folder of its own machine.

gunicorn --threads 16 'fuseml.agents.folder_store:serve()' serves it. FUSEML_AGENT_TOKEN is its token, FUSEML_AGENT_FOLDER the folder, and
FUSEML_AGENT_URL its own address as clients reach it, which locations begin with.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import flask

from fuseml.agents import service, store
from fuseml.artifactstores import wire
from fuseml.artifactstores.bucket import BucketStore
from fuseml.artifactstores.port import Location, Place
from fuseml.contents.filesystem import FileContents
from fuseml.domain.artifact import Address


class FolderStore(BucketStore):
    """See `ArtifactStore`. Locations are addresses of the agent at `url`: the folder is on its machine only."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(FileContents(folder), url, resource="fuseml-artifact-store")

    def locate(self, address: Address) -> Location:
        """The list of the files at the agent, which needs its token."""
        found = super().locate(address)
        uri = f"{self._uri}{wire.ROOT}/files?{urllib.parse.urlencode({'address': str(address)})}"
        return Location(uri, found.digest, found.size)

    def place(self, kind: str, project: str, name: str) -> Place:
        """The agent itself, to which a workload sends files."""
        super().place(kind, project, name)
        return Place(kind, project, name, f"{self._uri}{wire.ROOT}")


def create_app(environment: Mapping[str, str]) -> flask.Flask:
    """The agent with the settings of its module. Raises InvalidError for a missing one."""
    folder = Path(service.setting(environment, "FUSEML_AGENT_FOLDER")).absolute()
    kept = FolderStore(folder / "artifacts", service.setting(environment, "FUSEML_AGENT_URL"))
    return store.create_app(kept, service.setting(environment, service.TOKEN), folder / "uploads")


def serve() -> flask.Flask:
    """The agent with the settings of this process."""
    return create_app(os.environ)
