"""Models of a real MLflow server as artifacts: what MLflow's own client logged and set, and what it sees of FuseML's tags."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fuseml import artifactstores
from fuseml.artifactstores import Connection, folders
from fuseml.contents import mlflow as client
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.steps import model_digest
from tests import mlflow_servers
from tests.component.conftest import Trained
from tests.waiting import PATIENCE

MLMODEL = {"MLmodel": b"flavors: {python_function: {loader_module: x}}\n"}


def connect(url: str, project: str = "demo") -> artifactstores.ArtifactStore:
    return artifactstores.connect(Connection("mlflow-tracking", url, {}, project))


@pytest.fixture
def store(mlflow_server: str) -> artifactstores.ArtifactStore:
    return connect(mlflow_server)


def test_a_trained_model_is_described_with_its_framework_metrics_and_parameters(trained: Trained) -> None:
    store = connect(trained.mlflow)
    [name, version] = trained.ended.outputs["mlflow-model-url"].removeprefix("models:/").split("/")
    tracking = client.Tracking(trained.mlflow)
    _, tags = tracking.origin(tracking.model_version(name, version))
    address = Address("model", tags["fuseml.project"], name, version)
    described = store.describe(address)
    about = described.about
    assert (about.format, about.framework) == ("mlflow", "sklearn")
    assert about.framework_version.count(".") >= 1
    assert about.metrics and all(isinstance(value, float) for value in about.metrics.values())
    assert float(about.params["alpha"]) == 1
    assert about.producer.startswith("runs:/")
    assert described.digest.startswith("sha256:")
    assert described.size is not None and described.size > 100
    assert store.locate(address).uri == f"models:/{name}/{version}"
    assert store.locate(address).environment["MLFLOW_TRACKING_URI"] == trained.mlflow


def test_the_files_of_a_trained_model_are_those_that_it_logged(trained: Trained, tmp_path: Path) -> None:
    store = connect(trained.mlflow)
    [name, version] = trained.ended.outputs["mlflow-model-url"].removeprefix("models:/").split("/")
    _, tags = client.Tracking(trained.mlflow).origin(client.Tracking(trained.mlflow).model_version(name, version))
    address = Address("model", tags["fuseml.project"], name, version)
    folders.download(store, address, tmp_path / "model")
    assert (tmp_path / "model" / "MLmodel").is_file()
    assert model_digest.of_folder(tmp_path / "model") == store.describe(address).digest


def test_the_logged_model_is_read_through(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    text = b"flavors: {python_function: {loader_module: x}, xgboost: {xgb_version: 3.1.2}}\nmodel_size_bytes: 7\n"
    logged = mlflow_servers.log(mlflow_server, {"MLmodel": text})
    mlflow_servers.call(
        mlflow_server, "POST", f"logged-models/{logged}/params", {"model_id": logged, "params": [{"key": "depth", "value": "3"}]}
    )
    described = store.describe(store.commit(store.place("model", "demo", "logged"), f"models:/{logged}"))
    about = described.about
    assert (about.framework, about.framework_version, about.params, about.metadata["model_id"]) == (
        "xgboost",
        "3.1.2",
        {"depth": "3"},
        logged,
    )
    assert described.size == 7


# Each list holds the one before twice.
BOMB = b"l0: &l0 [x]\n" + b"".join(b"l%d: &l%d [*l%d, *l%d]\n" % (number, number, number - 1, number - 1) for number in range(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"flavors: [a]", b"flavors: {a: }", b"{", b"\xff", b"- " * 5000, b"!!python/object/apply:os.abort []"),
        BOMB + b"flavors: {a: {a_version: *l9}}",
    ],
)
def test_an_odd_file_of_a_model_is_no_obstacle(store: artifactstores.ArtifactStore, mlflow_server: str, text: bytes) -> None:
    logged = mlflow_servers.log(mlflow_server, {"MLmodel": text})
    address = store.commit(store.place("model", "demo", "odd"), f"models:/{logged}")
    about = store.describe(address).about
    assert about.framework in ("", "a")
    assert about.framework_version == ""


def test_tags_and_labels_go_both_ways(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    place = store.place("model", "demo", "two-way")
    first, second = (store.commit(place, f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}") for _ in range(2))
    assert [first.version, second.version] == ["1", "2"]
    mlflow_servers.call(mlflow_server, "POST", "registered-models/alias", {"name": "two-way", "alias": "champion", "version": "2"})
    mlflow_servers.call(mlflow_server, "POST", "model-versions/set-tag", {"name": "two-way", "version": "2", "key": "team", "value": "red"})
    assert store.tags(second) == ["champion"]
    assert store.resolve("model", "demo", "two-way", "champion") == second
    assert store.describe(second).labels["team"] == "red"
    store.tag(first, "champion")
    store.label(first, "team", "blue")
    seen = client.Tracking(mlflow_server).model_version("two-way", "1")
    assert (seen.aliases, seen.tags["team"]) == (("champion",), "blue")
    with pytest.raises(errors.PermanentError):
        store.tag(first, "latest")


def test_a_logged_model_is_one_version_of_a_name(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    digest = f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}"
    place = store.place("model", "demo", "once")
    found: list[Address] = []
    threads = [threading.Thread(target=lambda: found.append(store.commit(place, digest))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    again = store.commit(place, digest, artifactstores.About(producer="run-7/trainer", metadata={"x": "y"}))
    assert [version.address for version in store.versions("model", "demo", "once").versions] == [again]
    assert set(found) == {again}
    other = store.commit(place, f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}", artifactstores.About(producer="run-8/trainer"))
    assert store.describe(other).about.producer == "run-8/trainer"


def test_a_model_that_is_not_complete_or_not_logged_is_not_committed(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    pending = mlflow_servers.call(mlflow_server, "POST", "logged-models", {"experiment_id": "0", "name": "model"})["model"]["info"][
        "model_id"
    ]
    place = store.place("model", "demo", "pending")
    with pytest.raises(errors.TemporaryError, match="is not complete yet"):
        store.commit(place, f"models:/{pending}")
    for digest in ("runs:/1/model", "models:/pending/1", "m-1", ""):
        with pytest.raises(errors.InvalidError, match="not the address of a logged model"):
            store.commit(place, digest)
    assert list(store.versions("model", "demo", "pending").versions) == []


def registered(url: str, name: str, logged: str, **tags: str) -> str:
    """The number of a version that MLflow's own client registers, with these tags of the version."""
    with contextlib.suppress(AssertionError):
        mlflow_servers.call(url, "POST", "registered-models/create", {"name": name})
    run = mlflow_servers.call(url, "GET", f"logged-models/{logged}", {})["model"]["info"]["source_run_id"]
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    data = {"name": name, "source": f"models:/{logged}", "model_id": logged, "run_id": run, "tags": listed}
    return str(mlflow_servers.call(url, "POST", "model-versions/create", data)["model_version"]["version"])


def numbers(url: str, name: str) -> list[str]:
    """All versions that MLflow has of a name."""
    return [version.version for version in client.Tracking(url).versions(f"name = '{name}'", 100)]


@pytest.mark.parametrize("owned_by", ["version", "run"])
def test_a_commit_leaves_the_versions_of_other_projects_and_clients(
    store: artifactstores.ArtifactStore, mlflow_server: str, owned_by: str
) -> None:
    name, tags = f"shared-{owned_by}", {"fuseml.project": "blue"}
    logged = mlflow_servers.log(mlflow_server, MLMODEL, tags=tags if owned_by == "run" else {})
    of_version = tags if owned_by == "version" else {}
    assert [registered(mlflow_server, name, logged, **of_version) for _ in range(2)] == ["1", "2"]
    own = store.commit(store.place("model", "demo", name), f"models:/{logged}")
    assert (own.version, numbers(mlflow_server, name)) == ("3", ["1", "2", "3"])
    assert store.commit(store.place("model", "demo", name), f"models:/{logged}") == own
    assert store.commit(store.place("model", "blue", name), f"models:/{logged}").version == "1"
    assert numbers(mlflow_server, name) == ["1", "2", "3"]


def test_a_commit_takes_the_version_that_mlflows_client_registered(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    logged = mlflow_servers.log(mlflow_server, MLMODEL, tags={"fuseml.project": "demo"})
    assert [registered(mlflow_server, "taken", logged) for _ in range(2)] == ["1", "2"]
    assert store.commit(store.place("model", "demo", "taken"), f"models:/{logged}").version == "1"
    assert numbers(mlflow_server, "taken") == ["1", "2"]


@pytest.mark.parametrize("owned_by", ["version", "run", "both"])
def test_pages_and_changes_have_the_project_of_the_version_or_of_its_run(mlflow_server: str, owned_by: str) -> None:
    name, blue = f"listed-{owned_by}", connect(mlflow_server, "blue")
    of_run = {"version": {}, "run": {"fuseml.project": "blue"}, "both": {"fuseml.project": "red"}}[owned_by]
    logged = mlflow_servers.log(mlflow_server, MLMODEL, tags=of_run)
    registered(mlflow_server, name, logged, **({} if owned_by == "run" else {"fuseml.project": "blue"}))
    registered(mlflow_server, name, mlflow_servers.log(mlflow_server, MLMODEL))
    listed = {project: [item.address.version for item in blue.versions("model", project, name).versions] for project in ("blue", "red")}
    assert listed == {"blue": ["1", "2"], "red": ["2"]}
    for store, default in ((blue, "blue"), (connect(mlflow_server, "green"), "green")):
        found = [address for address in store.changes().addresses if address.name == name]
        assert sorted(found, key=str) == sorted([Address("model", "blue", name, "1"), Address("model", default, name, "2")], key=str)
    for item in blue.versions("model", "blue", name).versions:
        assert blue.describe(item.address).address == item.address


def test_a_tag_leaves_no_version_of_another_project(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    theirs, own = (
        store.commit(store.place("model", project, "aliased"), f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}")
        for project in ("blue", "demo")
    )
    store.tag(theirs, "best")
    with pytest.raises(errors.ConflictError, match="is on a version of another project"):
        store.tag(own, "best")
    assert store.resolve("model", "blue", "aliased", "best") == theirs


@pytest.mark.parametrize("owned_by", ["version", "run"])
def test_a_model_of_another_project_is_not_found(store: artifactstores.ArtifactStore, mlflow_server: str, owned_by: str) -> None:
    name = f"private-{owned_by}"
    if owned_by == "version":
        place = store.place("model", "blue", name)
        store.commit(place, f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}")
    else:
        logged = mlflow_servers.log(mlflow_server, MLMODEL, tags={"fuseml.project": "blue"})
        registered(mlflow_server, name, logged)
    own, foreign = Address("model", "blue", name, "1"), Address("model", "red", name, "1")
    assert store.describe(own).address == own
    store.tag(own, "best")
    for call in (
        lambda: store.describe(foreign),
        lambda: store.locate(foreign),
        lambda: store.tags(foreign),
        lambda: store.tag(foreign, "mine"),
        lambda: store.untag(foreign, "best"),
        lambda: store.label(foreign, "a", "b"),
        lambda: store.resolve("model", "red", name, "best"),
    ):
        with pytest.raises(errors.NotFoundError):
            call()
    store.delete(foreign)
    assert store.tags(own) == ["best"]
    with pytest.raises(errors.InvalidError, match="decides the owner"):
        store.label(own, "fuseml.project", "red")


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "ünïcode"])
def test_names_with_quotes_are_searched(store: artifactstores.ArtifactStore, mlflow_server: str, name: str) -> None:
    address = store.commit(store.place("model", "demo", name), f"models:/{mlflow_servers.log(mlflow_server, MLMODEL)}")
    assert [version.address for version in store.versions("model", "demo", name).versions] == [address]
    with pytest.raises(errors.InvalidError, match="both kinds of quotes"):
        store.versions("model", "demo", "' OR \"")


def test_a_server_that_is_away_is_a_temporary_error() -> None:
    store = connect("http://127.0.0.1:1")
    address = Address("model", "demo", "iris", "1")
    for call in (lambda: store.describe(address), lambda: store.versions("model", "demo", "iris"), store.changes):
        with pytest.raises(errors.TemporaryError, match="does not answer"):
            call()


def test_the_files_of_a_model_in_a_run_are_read(store: artifactstores.ArtifactStore, mlflow_server: str) -> None:
    """As clients before MLflow 3 log models."""
    info = mlflow_servers.call(mlflow_server, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]
    root = info["artifact_uri"]
    files = {"MLmodel": b"flavors: {}\n", "data/w e.bin": bytes(range(256)) * 9000}
    for path, data in {**{f"deep/model/{path}": data for path, data in files.items()}, "deep/modeling.txt": b"x", "log": b"y"}.items():
        place = f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/{root.removeprefix('mlflow-artifacts:').strip('/')}/{urllib.parse.quote(path)}"
        assert urllib3.request("PUT", place, body=data, timeout=PATIENCE).status == 200
    mlflow_servers.call(mlflow_server, "POST", "registered-models/create", {"name": "of-run"})
    fields = {"name": "of-run", "source": f"{root}/deep/model", "run_id": info["run_id"]}
    made = mlflow_servers.call(mlflow_server, "POST", "model-versions/create", fields)["model_version"]
    opened = store.open(Address("model", "demo", "of-run", str(made["version"])))
    assert {file.path: b"".join(opened.read(file)) for file in opened.files} == files


def _file(path: str, *, folder: bool = False, size: object = 1) -> dict[str, object]:
    return {"path": path, "is_dir": folder, "file_size": size}


@contextlib.contextmanager
def _listing(files: Callable[[str], object]) -> Iterator[str]:
    """The URL of a server with one version of a model, whose folders hold what `files` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urllib.parse.urlsplit(self.path)
            folder = urllib.parse.parse_qs(place.query).get("artifact_directory_path", [""])[0]
            answer: dict[str, Any] = {"model_version": {"name": "iris", "version": "1", "source": "models:/m-1"}}
            if "directories" in place.path:
                answer = {"files": files(folder)}
            body = b"y" * 3 if "get-artifact" in place.path else json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (lambda _: [_file("../x")], "a file that no folder could hold"),
        (lambda _: [_file("/etc/passwd")], "a file that no folder could hold"),
        (lambda _: [_file("a"), _file("a")], "a file that no folder could hold"),
        (lambda _: [_file("a", folder=True)], "lists 'a' in the folder 'a'"),
        (lambda folder: [_file(f"{folder}/a" if folder else "a", folder=True)], "more than 10000 files or 1000 folders"),
        (lambda folder: [_file(f"{number}") for number in range(10_001)], "more than 10000 files"),
        (lambda _: [_file("a", size="large")], "describes no folder"),
        (lambda _: [1], "describes no folder"),
        (lambda _: {"a": 1}, "describes no folder"),
    ],
)
def test_nonsense_in_place_of_files_is_refused(files: Callable[[str], object], problem: str) -> None:
    with _listing(files) as url, pytest.raises(errors.PermanentError, match=problem):
        connect(url).open(Address("model", "demo", "iris", "1"))


def test_a_file_of_another_size_is_damaged() -> None:
    with _listing(lambda _: [_file("MLmodel", size=2)]) as url:
        opened = connect(url).open(Address("model", "demo", "iris", "1"))
        with pytest.raises(errors.PermanentError, match=r"'MLmodel' of model://demo/iris/1 is damaged .* more than 2 bytes"):
            b"".join(opened.read(opened.files[0]))
