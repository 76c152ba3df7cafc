"""The programs that move artifacts beside a step, as engines start them: against a folder and an S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import collect, reach
from fuseml.domain import errors, plans
from fuseml.domain.artifact import Address
from fuseml.domain.plans import transfers
from fuseml.engines import check
from tests import commands, s3_servers
from tests.contract.artifact_stores import flip, sources
from tests.waiting import PATIENCE, wait_until

EXECUTION = "e" * 32
SECRET = "s3cret-of-the-store"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(params=["folder", "s3"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> artifactstores.Connection:
    if request.param == "folder":
        folder = tmp_path / "store"
        return artifactstores.Connection("folder", folder.as_uri(), {reach.VARIABLE: reach.mark(folder)})
    account = request.getfixturevalue("server").account
    keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key}
    return artifactstores.Connection("s3", account.endpoint, {**keys, "FUSEML_ARTIFACTS_BUCKET": f"{s3_servers.BUCKET}/{tmp_path.name}"})


def planned(connection: artifactstores.Connection) -> plans.Store:
    variables = tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in connection.environment.items())
    return plans.Store(extension="e", service="s", resource=connection.resource, url=connection.url, variables=variables)


def publish(connection: artifactstores.Connection, files: Mapping[str, bytes], project: str = "demo") -> Address:
    store = artifactstores.connect(connection)
    place = store.place("dataset", project, "letters")
    return store.commit(place, store.write(place, sources(dict(files))))


def fetching(connection: artifactstores.Connection, address: object, target: Path) -> dict[str, str]:
    fetch = plans.Fetch(name="data", address=plans.text(str(address)), path="/data", store=planned(connection))
    step = plans.StepPlan(name="train", image=plans.text("x"), fetches=(fetch,))
    return evaluated(transfers.fetching(step, "demo", {"data": str(target)}))


def collecting(connection: artifactstores.Connection, folder: Path, results: Path, *, within: str = "", **fields: object) -> dict[str, str]:
    described = {"output": "model", "kind": "model", "name": "churn", "path": "out/model", "format": "onnx", "store": planned(connection)}
    collect = plans.Collect.model_validate({**described, **fields})
    outputs = (plans.Output(name="model"), plans.Output(name="model-uri"))
    checkout = plans.Checkout(name="c", project="demo", codeset="c", url="u", ref="main", commit="0" * 40, path="/c", folder=within)
    step = plans.StepPlan(name="train", image=plans.text("x"), outputs=outputs, collects=(collect,), checkouts=(checkout,))
    return {**evaluated(transfers.collecting(step, "demo", EXECUTION, str(folder))), "FUSEML_ENV_RESULTS": str(results)}


def evaluated(variables: Mapping[str, plans.Value]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **{name: plans.evaluate(value, {}, plans.no_secret) for name, value in variables.items()}}


def run(module: str, environment: Mapping[str, str], *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    return commands.run([sys.executable, "-P", "-m", module, *arguments], environment, code=code)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 100_000)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return tmp_path / "work"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def test_contents_go_out_and_come_back_unchanged(connection: artifactstores.Connection, work: Path, results: Path, tmp_path: Path) -> None:
    run(transfers.COLLECT_MODULE, collecting(connection, work, results))
    address = Address.parse((results / "model").read_text())
    assert (address.kind, address.project, address.name) == ("model", "demo", "churn")
    store = artifactstores.connect(connection)
    described = store.describe(address)
    assert (described.digest, described.size, described.about.format) == (address.version, 100_010, "onnx")
    assert (results / "model-uri").read_text() == store.locate(address).uri
    target = tmp_path / "in"
    answer = run(transfers.FETCH_MODULE, fetching(connection, address, target))
    assert answer.stdout == f"fuseml: fetching {address} (2 files, 100.0 kB)\n"
    assert (target / "weights").read_bytes() == b"w" * 100_000
    assert os.access(target / "run.sh", os.X_OK)


def test_a_repetition_gives_the_same_address_and_clears_what_a_killed_fetch_left(
    connection: artifactstores.Connection, work: Path, results: Path, tmp_path: Path
) -> None:
    run(transfers.COLLECT_MODULE, collecting(connection, work, results))
    first = (results / "model").read_text()
    run(transfers.COLLECT_MODULE, collecting(connection, work, results))
    assert (results / "model").read_text() == first
    target = tmp_path / "in"
    (target / "weights").mkdir(parents=True)
    (target / "left-over").write_text("half")
    run(transfers.FETCH_MODULE, fetching(connection, first, target))
    assert sorted(path.name for path in target.iterdir()) == ["run.sh", "weights"]


def test_a_flipped_bit_is_found_and_no_step_would_start(tmp_path: Path) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    address = publish(connection, {"a": b"1" * 5000, "b": b"2"})
    [stored] = [path for path in (tmp_path / "store").rglob("files/*") if path.stat().st_size == 5000]
    flip(stored)
    answer = run(transfers.FETCH_MODULE, fetching(connection, address, tmp_path / "in"), code=1)
    assert "is damaged in the store" in answer.stderr.splitlines()[-1]


def test_an_artifact_of_another_project_is_refused_without_a_look(connection: artifactstores.Connection, tmp_path: Path) -> None:
    existing = publish(connection, {"a": b"1"}, "other")
    for address in (existing, f"dataset://other/none/sha256:{'0' * 64}"):
        answer = run(transfers.FETCH_MODULE, fetching(connection, address, tmp_path / "in"), code=1)
        assert answer.stderr == "a step of the project 'demo' reads the artifacts of its own project only\n"
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"dataset://demo/none/sha256:{'0' * 64}", "has no dataset://demo/none/"),
        ("dataset://demo/none", "it names no version"),
        ("hello", "is not an artifact's address"),
        (f"dataset://demo/../other/sha256:{'0' * 64}", "a dot segment"),
        (f"code://demo/x/{'0' * 40}", "a codeset is checked out"),
    ],
)
def test_the_output_of_a_step_that_names_nothing_is_the_cause(
    connection: artifactstores.Connection, tmp_path: Path, address: str, message: str
) -> None:
    answer = run(transfers.FETCH_MODULE, fetching(connection, address, tmp_path / "in"), code=1)
    assert message in answer.stderr.splitlines()[-1]


def link_out(work: Path) -> str:
    (work / "secret").write_text(SECRET)
    (work / "model").symlink_to(work / "secret")
    return "model"


def link_above(work: Path) -> str:
    (work / "up").symlink_to("/")
    return f"up{work}/out/model"


def link_inside(work: Path) -> str:
    (work / "out" / "model" / "passwd").symlink_to("/etc/passwd")
    return "out/model"


def nothing(_: Path) -> str:
    return "out/none"


def empty(work: Path) -> str:
    (work / "void").mkdir()
    return "void"


def fifo(work: Path) -> str:
    os.mkfifo(work / "out" / "model" / "pipe")
    return "out/model"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (link_out, "leads through a link"),
        (link_above, "leads through a link"),
        (link_inside, "is a link or a special file"),
        (fifo, "is a link or a special file"),
        (nothing, "without writing 'out/none'"),
        (empty, "has no files"),
    ],
)
def test_what_is_no_regular_file_of_the_step_becomes_no_artifact(work: Path, results: Path, tmp_path: Path, prepare, message: str) -> None:  # type: ignore[no-untyped-def]
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    answer = run(transfers.COLLECT_MODULE, collecting(connection, work, results, path=prepare(work)), code=1)
    assert message in answer.stderr.splitlines()[-1]
    assert list(results.iterdir()) == []
    assert not list((tmp_path / "store").rglob("versions/*"))


def test_the_folder_of_a_codeset_that_the_step_replaced_by_a_link_is_refused(work: Path, results: Path, tmp_path: Path) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    run(transfers.COLLECT_MODULE, collecting(connection, work, results, within="out", path="model"))
    (results / "model").unlink()
    (work / "out").rename(tmp_path / "foreign")
    (work / "out").symlink_to(tmp_path / "foreign")
    answer = run(transfers.COLLECT_MODULE, collecting(connection, work, results, within="out", path="model"), code=1)
    assert "'model', of which the artifact 'model' is made, leads through a link" in answer.stderr
    assert not (results / "model").exists()


@pytest.mark.parametrize("swap", ["folder", "link", "fifo"])
def test_what_is_replaced_after_the_check_is_neither_followed_nor_waited_for(work: Path, swap: str) -> None:
    [_, weights] = collect._sources(work, "out", "model", "model")
    assert b"".join(weights.blocks()) == b"w" * 100_000
    if swap == "folder":
        (work / "out").rename(work / "moved")
        (work / "out").symlink_to(work / "moved")
    else:
        (work / "out" / "model" / "weights").rename(work / "moved")
        place = work / "out" / "model" / "weights"
        place.symlink_to(work / "moved") if swap == "link" else os.mkfifo(place)
    with pytest.raises(errors.InvalidError, match="was replaced while it was read"):
        next(weights.blocks())


def test_a_missing_second_artifact_leaves_no_version_of_the_first(work: Path, results: Path, tmp_path: Path) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    environment = collecting(connection, work, results)
    prefix = f"{transfers.COLLECT}_0_"
    second = {name.replace(prefix, f"{transfers.COLLECT}_1_"): value for name, value in environment.items() if name.startswith(prefix)}
    environment |= second | {f"{transfers.COLLECT}_1_OUTPUT": "other", f"{transfers.COLLECT}_1_PATH": "none"}
    answer = run(transfers.COLLECT_MODULE, environment, code=1)
    assert "without writing 'none'" in answer.stderr
    assert list(results.iterdir()) == []
    assert not list((tmp_path / "store").rglob("versions/*"))
    environment[f"{transfers.COLLECT}_1_PATH"] = "out"
    run(transfers.COLLECT_MODULE, environment)
    assert sorted(path.name for path in results.iterdir()) == ["model", "model-uri", "other"]


def test_contents_that_are_gone_before_they_become_a_version_are_written_again(
    work: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    commit, lost = collect._commit, iter([True])

    def losing(item: collect._Written, environment: Mapping[str, str]) -> None:
        if next(lost, False):
            shutil.rmtree(tmp_path / "store" / "model")
            raise errors.TemporaryError("leftovers are being deleted")
        commit(item, environment)

    monkeypatch.setattr(collect, "_commit", losing)
    collect.main(collecting(connection, work, results))
    address = Address.parse((results / "model").read_text())
    assert artifactstores.connect(connection).describe(address).size == 100_010


def test_an_output_that_the_step_has_put_there_itself_is_replaced(work: Path, results: Path, tmp_path: Path) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    (tmp_path / "victim").write_text("kept")
    (results / "model").symlink_to(tmp_path / "victim")
    run(transfers.COLLECT_MODULE, collecting(connection, work, results))
    assert (tmp_path / "victim").read_text() == "kept"
    assert (results / "model").read_text().startswith("model://demo/churn/sha256:")


def test_a_killed_collect_leaves_nothing_visible_and_its_repetition_everything(
    connection: artifactstores.Connection, work: Path, results: Path
) -> None:
    (work / "out" / "model" / "large").write_bytes(os.urandom(1 << 20) * 64)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", transfers.COLLECT_MODULE], env=collecting(connection, work, results), stdout=subprocess.PIPE
    )
    store = artifactstores.connect(connection)
    # Some bytes are on their way.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    if process.returncode == -signal.SIGKILL and not (results / "model").exists():
        assert list(store.versions("model", "demo", "churn").versions) == []
    run(transfers.COLLECT_MODULE, collecting(connection, work, results))
    [version] = store.versions("model", "demo", "churn").versions
    assert str(version.address) == (results / "model").read_text()


def test_a_store_that_comes_back_is_waited_for(work: Path, results: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "FUSEML_ARTIFACTS_BUCKET": "artifacts", "AWS_REGION": "us-east-1"}
    connection = artifactstores.Connection("s3", f"http://127.0.0.1:{port}", keys)
    with (tmp_path / "out").open("wb") as log:
        command = [sys.executable, "-P", "-m", transfers.COLLECT_MODULE]
        process = subprocess.Popen(command, env=collecting(connection, work, results), stdout=log, stderr=log)
    try:
        wait_until(lambda: "trying again in" in (tmp_path / "out").read_text(), "the first refusal")
        assert list(results.iterdir()) == []
        with _moto(port, tmp_path):
            assert process.wait(PATIENCE) == 0
        assert (results / "model").read_text().startswith("model://demo/churn/")
    finally:
        process.kill()
        process.wait()


_MOTO = """
import sys
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main
s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("artifacts", "us-east-1")
main(["-p", sys.argv[1]])
"""


@contextlib.contextmanager
def _moto(port: int, folder: Path) -> Iterator[None]:
    """A server that accepts every account, at a known port. It has its bucket before its first answer."""
    with (folder / "moto").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _MOTO, str(port)], env={"PATH": os.environ["PATH"]}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_folder_of_another_machine_is_not_mistaken_for_an_equal_path(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    connection = artifactstores.Connection("folder", folder.as_uri(), {reach.VARIABLE: reach.mark(folder)})
    assert reach.mark(folder) == connection.environment[reach.VARIABLE]
    reach.check(connection)
    for other in (tmp_path / "elsewhere", tmp_path / "of-another-server"):
        if other.name == "of-another-server":
            reach.mark(other)
        with pytest.raises(errors.PermanentError, match="is a folder on the machine of the server"):
            reach.check(artifactstores.Connection("folder", other.as_uri(), connection.environment))


def test_in_a_pod_the_check_of_the_outputs_follows(work: Path, results: Path, tmp_path: Path) -> None:
    connection = artifactstores.Connection("folder", (tmp_path / "store").as_uri(), {})
    (results / "score").write_text("1")
    files = {name: tmp_path / f"of-{name}" for name in ("problem", "model", "score")}
    accepted = [(name, str(files[name])) for name in ("model", "score")]
    run(transfers.COLLECT_MODULE, collecting(connection, work, results), *check.arguments(results, "", files["problem"], accepted))
    assert files["model"].read_text().startswith("model://demo/churn/")
    assert (files["score"].read_text(), files["problem"].exists()) == ("1", False)
    environment = collecting(connection, work, results, path="none")
    run(transfers.COLLECT_MODULE, environment, *check.arguments(results, "", files["problem"], accepted), code=1)
    assert "without writing 'none'" in files["problem"].read_text()


def test_the_programs_import_neither_the_database_nor_the_clients_of_other_stores() -> None:
    script = "import sys; from fuseml.artifactstores import collect, fetch; print(*sys.modules)"
    imported = set(commands.python(script).stdout.split())
    assert not {"sqlmodel", "sqlalchemy", "urllib3", "dulwich", "fuseml.store"} & imported


def test_the_variables_are_json_free_text() -> None:
    # A value may hold anything that an environment can.
    store = plans.Store(
        extension="e", service="s", resource="s3", url="", variables=(plans.Variable(name="X", value=plans.text('{"a": "b=c"}')),)
    )
    step = plans.StepPlan(
        name="s", image=plans.text("x"), fetches=(plans.Fetch(name="d", address=plans.text("a"), path="/d", store=store),)
    )
    assert json.loads(evaluated(transfers.fetching(step, "p", {"d": "/t"}))["FUSEML_FETCH_0_STORE_VARIABLE_X"]) == {"a": "b=c"}
