"""Responses about artifact stores: the way to contents, which go straight between a store and the client's machine."""

from __future__ import annotations

from typing import TypedDict


class ArtifactCopy(TypedDict):
    """The place of a copy of an artifact's contents in another store, `extension/service`."""

    store: str
    location: str


class StoreAccess(TypedDict):
    """An artifact store and an account for it: `environment` holds the variables of its record, with secrets."""

    store: str
    resource: str
    url: str
    environment: dict[str, str]


class ArtifactLocation(StoreAccess):
    """The artifact store that holds the contents of the artifact at `address`."""

    address: str
    digest: str | None
    size: int | None
    location: str | None


class ArtifactPage(TypedDict):
    """The URL at which the tool shows the artifact."""

    address: str
    url: str


class Mirror(TypedDict):
    """The stores, a selector, that the steps of a project read artifacts of a kind from."""

    project: str
    kind: str
    store: dict[str, object]
    by: str
    updated: str
