"""The builder on a cluster: what a codeset asks for becomes an image in a registry, without a container runtime. Packages come from a folder."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.steps import layers
from tests import commands

from . import oci_registry, steps
from .test_steps_mlflow_builder import wheels

__all__ = ["wheels"]

BASE, MADE = "fuseml/mlflow-trainer", "team/environments"
BELOW = (b"the first layer" * 1000, b"the second layer")
VARIABLES = ["PATH=/opt/venv/bin:/bin", "MPLCONFIGDIR=/tmp"]


@pytest.fixture
def registry() -> Iterator[oci_registry.Registry]:
    with oci_registry.running() as it:
        it.put_image(BASE, "v1", *BELOW, Env=VARIABLES, User="65532:65532")
        yield it


def build(
    folder: Path, it: oci_registry.Registry, wheels: Path, *, target: oci_registry.Registry | None = None, account: str = "", **more: str
) -> steps.Ended:
    """The builder's end. Every one begins with nothing, as in a pod; `account` is docker's configuration there."""
    home = folder.with_name(f"{folder.name}.home")
    shutil.rmtree(home, ignore_errors=True)
    (home / ".docker").mkdir(parents=True)
    (home / "tmp").mkdir()
    if account:
        (home / ".docker" / "config.json").write_text(account)
    settings = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "FUSEML_TRAINER_IMAGE": f"{it.host}/{BASE}:v1",
        "FUSEML_IMAGE_REPOSITORY": f"{(target or it).host}/{MADE}",
        "FUSEML_FIND_LINKS": str(wheels),
        "FUSEML_INDEX_URL": "none",
    }
    ended = steps.run("mlflow_builder", folder, **{**settings, **more})
    assert list((home / "tmp").iterdir()) == []
    return ended


def unpacked(it: oci_registry.Registry, digest: str, folder: Path) -> tuple[Any, Any, Path]:
    """The image's manifest and configuration, and a folder with what its last layer holds."""
    manifest: Any = it.manifest(MADE, digest)
    layer = it.blobs[MADE, manifest["layers"][-1]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        archive.extractall(folder, filter="tar")
    return manifest, json.loads(it.blobs[MADE, manifest["config"]["digest"]]), folder


def test_an_image_is_made_once_for_a_content(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="Tiny_ML==1.2.0\n")
    first = build(folder, registry, wheels, TASK_RESULT="image")
    assert first.code == 0, first.err
    name, _, digest = first.outputs["image"].partition("@")
    [tag] = registry.tags(MADE)
    assert name == f"{registry.host}/{MADE}"
    assert registry.manifests[MADE, digest] == registry.manifests[MADE, tag]
    assert "the running environment lacks tiny-ml==1.2.0 (not installed)" in first.out

    (folder / "requirements.txt").write_text("# the same, in other words\ntiny-ml == 1.2.0\n")
    registry.asked.clear()
    second = build(folder, registry, wheels, TASK_RESULT="image")
    assert second.outputs == first.outputs
    assert f"{tag} is there already; nothing to build" in second.out
    assert {asked.split()[0] for asked in registry.asked} == {"GET"}


def test_the_image_is_the_trainers_with_the_environment_on_top(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    ended = build(folder, registry, wheels)
    assert ended.code == 0, ended.err
    manifest, configuration, root = unpacked(registry, ended.outputs["image"].partition("@")[2], tmp_path / "root")
    assert [layer["digest"] for layer in manifest["layers"][:-1]] == [oci_registry.digest_of(data) for data in BELOW]
    content = gzip.decompress(registry.blobs[MADE, manifest["layers"][-1]["digest"]])
    assert configuration["rootfs"]["diff_ids"] == [*(oci_registry.digest_of(b"unpacked" + data) for data in BELOW), layers.digest(content)]
    assert configuration["config"]["User"] == "65532:65532"
    assert configuration["config"]["Env"] == ["PATH=/opt/fuseml/environment/bin:/opt/venv/bin:/bin", "MPLCONFIGDIR=/tmp"]
    assert str(tmp_path).encode() not in content

    # `run`, which Tekton starts, is the trainer of the environment, and the model server, which Knative starts, is in it too.
    programs = root / "opt" / "fuseml" / "environment" / "bin"
    program = "import fuseml.steps.sdk, importlib.util, tiny_ml; print(importlib.util.find_spec('fuseml.steps.model_server').cached, tiny_ml.__cached__)"
    found = commands.run([programs / "python", "-I", "-c", program])
    assert all(Path(file).is_file() for file in found.stdout.split()), "it is compiled: nobody can write there later"
    run = commands.run([programs / "run"], environment={"PATH": f"{programs}:/bin:/usr/bin"}, cwd=folder, code=1)
    assert run.stderr == f"there is no MLproject file in {folder}; add one with an entry point 'main'\n"


def test_layers_of_the_same_registry_are_not_sent(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    registry.auth = "token"
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    ended = build(folder, registry, wheels, account=registry.config_file())
    assert ended.code == 0, ended.err
    assert (
        len([asked for asked in registry.asked if asked.startswith("PUT") and "uploads" in asked]) == 2
    )  # the environment and the configuration


def test_layers_of_another_registry_are_brought_and_the_same_content_is_the_same_image(
    tmp_path: Path, registry: oci_registry.Registry, wheels: Path
) -> None:
    one = steps.codeset(tmp_path / "one", requirements__txt="tiny-ml\n")
    other = steps.codeset(tmp_path / "other", python_env__yaml="dependencies: [tiny-ml]\n")
    with oci_registry.running(auth="basic") as target:
        first = build(one, registry, wheels, target=target, account=target.config_file())
        assert first.code == 0, first.err
        digest = first.outputs["image"].partition("@")[2]
        assert target.blobs[MADE, oci_registry.digest_of(BELOW[0])] == BELOW[0]
    second = build(other, registry, wheels)
    assert second.outputs["image"] == f"{registry.host}/{MADE}@{digest}"


def test_two_builders_at_once_make_the_same_image(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folders = [steps.codeset(tmp_path / name, requirements__txt="tiny-ml") for name in ("one", "two")]
    ended: list[steps.Ended] = []
    threads = [threading.Thread(target=lambda folder=folder: ended.append(build(folder, registry, wheels))) for folder in folders]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended[0].outputs == ended[1].outputs != {}
    assert len(registry.tags(MADE)) == 1


def test_of_an_index_the_image_of_this_machine_is_taken(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    with oci_registry.running() as it:
        entries = []
        for architecture in ("s390x", "amd64", "arm64"):
            digest = it.put_image(BASE, architecture, architecture.encode(), kind="docker", Env=VARIABLES)
            entries.append({"digest": digest, "platform": {"os": "linux", "architecture": architecture}})
        it.put_manifest(BASE, "v1", {"mediaType": layers.DOCKER_LIST, "schemaVersion": 2, "manifests": entries})
        ended = build(folder, it, wheels)
        assert ended.code == 0, ended.err
        manifest, configuration, _ = unpacked(it, ended.outputs["image"].partition("@")[2], tmp_path / "root")
        assert manifest["mediaType"] == layers.DOCKER_MANIFEST
        assert configuration["config"]["Labels"]["org.opencontainers.image.base.digest"] in [entry["digest"] for entry in entries[1:]]
        del entries[1:]
        it.put_manifest(BASE, "v1", {"mediaType": layers.DOCKER_LIST, "schemaVersion": 2, "manifests": entries})
        assert "only for linux/s390x" in build(folder, it, wheels).err


def test_a_push_that_fails_leaves_no_image(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    registry.auth = "basic"
    ended = build(folder, registry, wheels, account=registry.config_file(password="canary-wrong"))
    assert (ended.code, ended.outputs, registry.tags(MADE)) == (1, {}, [])
    assert "link a Secret" in ended.err
    assert "canary" not in ended.err + ended.out
    registry.statuses["PUT manifests"] = [(413, {})]
    ended = build(folder, registry, wheels, account=registry.config_file())
    assert (ended.code, ended.outputs, registry.tags(MADE)) == (1, {}, [])
    assert f"the registry {registry.host} does not take the image {registry.host}/{MADE}:" in ended.err
    assert build(folder, registry, wheels, account=registry.config_file()).code == 0


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"FUSEML_IMAGE_REPOSITORY": "registry.example.com/Team"}, "(FUSEML_IMAGE_REPOSITORY) is 'registry.example.com/Team', which is no"),
        ({"FUSEML_IMAGE_REPOSITORY": "registry.example.com/team:1"}, "leave out the tag"),
        ({"FUSEML_IMAGE_REPOSITORY": ""}, "lacks tiny-ml (not installed), and nothing says where an image that holds it may be put"),
        ({"FUSEML_TRAINER_IMAGE": "a b"}, "the trainer's image (FUSEML_TRAINER_IMAGE) is 'a b'"),
    ],
)
def test_what_is_wrong_is_one_line(
    settings: dict[str, str], cause: str, tmp_path: Path, registry: oci_registry.Registry, wheels: Path
) -> None:
    ended = build(steps.codeset(tmp_path / "wrong", requirements__txt="tiny-ml\n"), registry, wheels, **settings)
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert cause in ended.err


def test_a_base_with_another_python_is_refused(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    with oci_registry.running() as it:
        it.put_image(BASE, "v1", *BELOW, Env=["PYTHON_VERSION=3.4.1"])
        ended = build(folder, it, wheels)
        assert "has Python 3.4.1 and this builder 3." in ended.err
        assert it.tags(MADE) == []
