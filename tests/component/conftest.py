"""Fixtures of the component tests. The MLflow server and the PostgreSQL server are real; one of each serves the whole session."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml.store import database
from tests import databases, mlflow_servers, postgresql

from . import endpoint, steps
from . import ingress as ingress_functions


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """A running PostgreSQL server. Skips the test if its programs are not installed."""
    bin = postgresql.programs()
    if bin is None:
        pytest.skip("needs PostgreSQL's server programs, such as Debian's package postgresql")
    server = postgresql.Server(bin)
    server.start()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new, migrated database, once for each kind that the store supports."""
    if request.param == "sqlite":
        yield databases.on_sqlite(tmp_path / "fuseml.db").url
        return
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    with server.migrated() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database, once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fuseml.db"
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    return server.fresh()


@pytest.fixture
def store(database_url: str) -> Iterator[database.Database]:
    """A migrated store, once for each kind of database."""
    with contextlib.closing(database.Database(database_url)) as store:
        yield store


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[database.Database]:
    """A migrated store on SQLite, for tests that do not depend on the kind of database."""
    with contextlib.closing(databases.on_sqlite(tmp_path / "fuseml.db")) as store:
        yield store


@pytest.fixture
def publisher() -> endpoint.Publisher:
    return endpoint.Publisher()


@pytest.fixture
def function(store: database.Database, publisher: endpoint.Publisher) -> endpoint.Function:
    return endpoint.Function(store, publisher)


@pytest.fixture
def ingress(sqlite_store: database.Database) -> ingress_functions.Ingress:
    """The functions that receive webhooks."""
    return ingress_functions.Ingress(sqlite_store)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an MLflow tracking server with a model registry, on SQLite and a folder of its own."""
    pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")
    with mlflow_servers.server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@dataclass(frozen=True)
class Trained:
    """The shipped example, trained once by the trainer step against `mlflow`."""

    mlflow: str
    folder: Path
    ended: steps.CompletedStep


@pytest.fixture(scope="session")
def trained(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("codesets") / "sklearn-diabetes"
    shutil.copytree(steps.EXAMPLE, folder)
    ended = steps.run("mlflow_trainer", folder, TASK_RESULT="mlflow-model-url", FUSEML_ALPHA="1", MLFLOW_TRACKING_URI=mlflow_server)
    return Trained(mlflow_server, folder, ended)
