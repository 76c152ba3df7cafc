"""The program that copies an artifact from store to store, as engines start it: folders, an S3 server, and MLflow."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import reach
from fuseml.domain import plans
from fuseml.domain.artifact import Address
from fuseml.domain.plans import conversions, transfers
from tests import commands, mlflow_servers, s3_servers
from tests.contract.artifact_stores import flip, sources
from tests.waiting import PATIENCE

EXECUTION = "e" * 32
FILES = {"weights": b"w" * 100_000, "deep/empty": b"", "deep/letters": b"abc"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


def folder(at: Path) -> artifactstores.Connection:
    return artifactstores.Connection("folder", at.as_uri(), {reach.VARIABLE: reach.mark(at)})


def bucket(server: s3_servers.Server, prefix: str) -> artifactstores.Connection:
    account = server.account
    keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key}
    return artifactstores.Connection("s3", account.endpoint, {**keys, "FUSEML_ARTIFACTS_BUCKET": f"{s3_servers.BUCKET}/{prefix}"})


def planned(connection: artifactstores.Connection, name: str) -> plans.Store:
    variables = tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in connection.environment.items())
    return plans.Store(extension=name, service="store", resource=connection.resource, url=connection.url, variables=variables)


def converting(
    source: artifactstores.Connection, target: artifactstores.Connection, address: object, results: Path, *, copied: bool = True
) -> dict[str, str]:
    step = plans.StepPlan(
        name="data-copy",
        image=plans.text(conversions.CONVERTER),
        fetches=(plans.Fetch(name="artifact", address=plans.text(str(address)), store=planned(source, "from")),),
        collects=(plans.Collect(output="copy", kind="dataset", path="", store=planned(target, "to"), copied=copied),),
    )
    values = transfers.converting(step, "demo", EXECUTION)
    results.mkdir(exist_ok=True)
    variables = {name: plans.evaluate(value, {}, plans.no_secret) for name, value in values.items()}
    return {"PATH": os.environ["PATH"], **variables, "FUSEML_ENV_RESULTS": str(results)}


def publish(connection: artifactstores.Connection, files: Mapping[str, bytes], project: str = "demo") -> Address:
    store = artifactstores.connect(connection)
    place = store.place("dataset", project, "raw/letters")
    return store.commit(place, store.write(place, sources(dict(files))), artifactstores.About(format="csv"))


def convert(environment: Mapping[str, str], code: int = 0) -> subprocess.CompletedProcess[str]:
    return commands.run([sys.executable, "-P", "-m", transfers.CONVERT_MODULE], environment, code=code)


def contents(connection: artifactstores.Connection, address: Address) -> dict[str, bytes]:
    opened = artifactstores.connect(connection).open(address)
    return {file.path: b"".join(opened.read(file)) for file in opened.files}


@pytest.mark.parametrize("way", ["folder to s3", "s3 to folder", "folder to folder"])
def test_the_copy_has_the_contents_and_is_made_once(way: str, server: s3_servers.Server, tmp_path: Path) -> None:
    made = {"folder": lambda end: folder(tmp_path / end), "s3": lambda end: bucket(server, f"{tmp_path.name}/{end}")}
    source, target = (made[kind](end) for kind, end in zip(way.split(" to "), ("one", "other"), strict=True))
    address = publish(source, FILES)
    first = convert(converting(source, target, address, tmp_path / "results"))
    copy = Address.parse((tmp_path / "results" / "copy").read_text())
    assert copy == Address("dataset", "demo", "anonymous/copies/to/store/raw/letters", address.version)
    assert first.stdout == f"fuseml: copying {address} to to/store (3 files, 100.0 kB)\n"
    assert contents(target, copy) == FILES
    described = artifactstores.connect(target).describe(copy)
    assert (described.about.format, described.about.producer) == ("csv", f"{EXECUTION}/data-copy")
    assert (tmp_path / "results" / "copy-uri").read_text() == artifactstores.connect(target).locate(copy).uri
    again = convert(converting(source, target, address, tmp_path / "again"))
    assert again.stdout == f"fuseml: to/store has a copy of {address} (3 files, 100.0 kB)\n"
    assert (tmp_path / "again" / "copy").read_text() == str(copy)
    assert len(artifactstores.connect(target).versions("dataset", "demo", copy.name).versions) == 1


def test_a_model_of_mlflow_is_copied_verified(mlflow_server: str, server: s3_servers.Server, tmp_path: Path) -> None:
    files = {"MLmodel": b"flavors: {python_function: {loader_module: x}}\n", "data/weights": b"w" * 50_000}
    logged = mlflow_servers.log(mlflow_server, files)
    source, target = artifactstores.Connection("mlflow-tracking", mlflow_server, {}, "demo"), bucket(server, f"{tmp_path.name}/models")
    store = artifactstores.connect(source)
    address = store.commit(store.place("model", "demo", f"copied-{tmp_path.name}"), f"models:/{logged}")
    convert(converting(source, target, address, tmp_path / "results"))
    copy = Address.parse((tmp_path / "results" / "copy").read_text())
    assert (copy.kind, copy.name) == ("model", f"anonymous/copies/to/store/{address.name}")
    assert contents(target, copy) == files
    assert artifactstores.connect(target).describe(copy).about.format == "mlflow"
    # Its files have no digests that would lead to the copy: they are read again, and the version stays the same.
    convert(converting(source, target, address, tmp_path / "again"))
    assert (tmp_path / "again" / "copy").read_text() == str(copy)


def test_the_copy_of_an_anonymous_artifact_has_the_name_of_its_run(tmp_path: Path) -> None:
    source, target = folder(tmp_path / "one"), folder(tmp_path / "other")
    address = publish(source, FILES)
    convert(converting(source, target, address, tmp_path / "results", copied=False))
    copy = Address.parse((tmp_path / "results" / "copy").read_text())
    assert copy.name == transfers.anonymous_name(EXECUTION, "data-copy", "copy")


def test_a_flipped_bit_is_never_copied(tmp_path: Path) -> None:
    source, target = folder(tmp_path / "one"), folder(tmp_path / "other")
    address = publish(source, {"weights": b"w" * 100_000})
    [stored] = (tmp_path / "one").rglob("files/*")
    flip(stored)
    failed = convert(converting(source, target, address, tmp_path / "results"), code=1)
    assert "is damaged in the store" in failed.stderr
    assert not (tmp_path / "results" / "copy").exists()
    assert artifactstores.connect(target).versions("dataset", "demo", "anonymous/copies/to/store/raw/letters").versions == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"dataset://other/raw/letters/sha256:{'0' * 64}", "reads the artifacts of its own project only"),
        (f"code://demo/letters/{'0' * 40}", "a step does not read"),
        (f"dataset://demo/raw/letters/sha256:{'0' * 64}", "has no dataset://demo/raw/letters"),
    ],
)
def test_what_the_step_may_not_read_is_not_copied(address: str, message: str, tmp_path: Path) -> None:
    failed = convert(converting(folder(tmp_path / "one"), folder(tmp_path / "other"), address, tmp_path / "results"), code=1)
    assert message in failed.stderr


def test_a_killed_copy_is_invisible_and_its_repetition_whole(tmp_path: Path) -> None:
    source, target = folder(tmp_path / "one"), folder(tmp_path / "other")
    files = {f"part-{number}": os.urandom(1 << 20) * 16 for number in range(6)}
    address = publish(source, files)
    environment = converting(source, target, address, tmp_path / "results")
    process = subprocess.Popen([sys.executable, "-P", "-m", transfers.CONVERT_MODULE], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"fuseml: copying")
    # Some bytes are on their way.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    store = artifactstores.connect(target)
    if process.returncode == -signal.SIGKILL and not (tmp_path / "results" / "copy").exists():
        assert store.versions("dataset", "demo", "anonymous/copies/to/store/raw/letters").versions == []
    convert(environment)
    assert contents(target, Address.parse((tmp_path / "results" / "copy").read_text())) == files
