"""Moves of the embedded MLflow: records and applications keep its address, which changes with the address of this server.

Until release 0.1 MLflow had a port of its own, which the file `port` names. A repeated move changes nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from fuseml.domain.registry import extension
from fuseml.runtime import clock
from fuseml.store import applications, database, extensions


def follow(store: database.Database, folder: pathlib.Path, url: str) -> None:
    """Make records and applications name `url` instead of the former address of the server whose files are in `folder`."""
    former, current = _former(folder), folder / "address"
    if former and former != url:
        _move(store, former, url)
    if former != url:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".address.partial"
        partial.write_text(url + "\n")
        partial.replace(current)
    (folder / "port").unlink(missing_ok=True)


def _former(folder: pathlib.Path) -> str:
    if (folder / "address").exists():
        return (folder / "address").read_text().strip()
    port = folder / "port"
    return f"http://127.0.0.1:{port.read_text().strip()}" if port.exists() else ""


def _move(store: database.Database, former: str, url: str) -> None:
    def moved(text: str) -> str:
        return url + text[len(former) :] if text == former or text.startswith(f"{former}/") else text

    now = clock.now()
    with store.write() as session:
        for record in extensions.at_addresses(session, [former]):
            services = tuple(
                service.model_copy(update={"endpoints": tuple(_moved_endpoint(item, moved) for item in service.endpoints)})
                for service in record.services
            )
            if services != record.services:
                extensions.replace(session, record.model_copy(update={"services": services, "revision": record.revision + 1}), now)
        applications.move_tracking(session, moved)


def _moved_endpoint(endpoint: extension.Endpoint, moved: Callable[[str], str]) -> extension.Endpoint:
    configuration = {key: moved(value) for key, value in endpoint.configuration.items()}
    return endpoint.model_copy(update={"url": moved(endpoint.url), "configuration": configuration})
