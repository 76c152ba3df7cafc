"""The builder on a cluster: it pushes the codeset's environment as an image, without a container runtime. Packages come from a folder."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.steps import layers
from tests import commands

from . import oci_registry, steps
from .test_steps_mlflow_builder import wheels

__all__ = ["wheels"]

BASE, TARGET = "fuseml/mlflow-trainer", "team/environments"
BELOW = (b"the first layer" * 1000, b"the second layer")
VARIABLES = ["PATH=/opt/venv/bin:/bin", "MPLCONFIGDIR=/tmp"]


@pytest.fixture
def registry() -> Iterator[oci_registry.Registry]:
    with oci_registry.running() as registry:
        registry.put_image(BASE, "v1", *BELOW, Env=VARIABLES, User="65532:65532")
        yield registry


def build(
    folder: Path,
    registry: oci_registry.Registry,
    wheels: Path,
    *,
    target: oci_registry.Registry | None = None,
    account: str = "",
    variables: Mapping[str, str] | None = None,
) -> steps.CompletedStep:
    """Run the builder with an empty HOME, as in a pod; `account` is docker's configuration in it, `variables` change its environment."""
    home = folder.with_name(f"{folder.name}.home")
    shutil.rmtree(home, ignore_errors=True)
    (home / ".docker").mkdir(parents=True)
    (home / "tmp").mkdir()
    if account:
        (home / ".docker" / "config.json").write_text(account)
    settings = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "FUSEML_TRAINER_IMAGE": f"{registry.host}/{BASE}:v1",
        "FUSEML_IMAGE_REPOSITORY": f"{(target or registry).host}/{TARGET}",
        "FUSEML_FIND_LINKS": str(wheels),
        "FUSEML_INDEX_URL": "none",
    }
    ended = steps.run("mlflow_builder", folder, **{**settings, **(variables or {})})
    assert list((home / "tmp").iterdir()) == []
    return ended


def unpacked(registry: oci_registry.Registry, digest: str, folder: Path) -> tuple[Any, Any, Path]:
    """The image's manifest and configuration, and a folder with its last layer."""
    manifest: Any = registry.manifest(TARGET, digest)
    layer = registry.blobs[TARGET, manifest["layers"][-1]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        archive.extractall(folder, filter="tar")
    return manifest, json.loads(registry.blobs[TARGET, manifest["config"]["digest"]]), folder


def test_an_image_is_built_once_for_a_content(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="Tiny_ML==1.2.0\n")
    first = build(folder, registry, wheels, variables={"TASK_RESULT": "image"})
    assert first.code == 0, first.err
    name, _, digest = first.outputs["image"].partition("@")
    [tag] = registry.tags(TARGET)
    assert name == f"{registry.host}/{TARGET}"
    assert registry.manifests[TARGET, digest] == registry.manifests[TARGET, tag]
    assert "the running environment lacks tiny-ml==1.2.0 (not installed)" in first.out

    (folder / "requirements.txt").write_text("# the same, in other words\ntiny-ml == 1.2.0\n")
    registry.requests.clear()
    second = build(folder, registry, wheels, variables={"TASK_RESULT": "image"})
    assert second.outputs == first.outputs
    assert f"{tag} exists; nothing to build" in second.out
    assert {request.split()[0] for request in registry.requests} == {"GET"}


def test_the_image_is_the_trainers_with_the_environment_on_top(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    ended = build(folder, registry, wheels)
    assert ended.code == 0, ended.err
    manifest, configuration, root = unpacked(registry, ended.outputs["image"].partition("@")[2], tmp_path / "root")
    assert [layer["digest"] for layer in manifest["layers"][:-1]] == [oci_registry.digest_of(data) for data in BELOW]
    content = gzip.decompress(registry.blobs[TARGET, manifest["layers"][-1]["digest"]])
    assert configuration["rootfs"]["diff_ids"] == [*(oci_registry.digest_of(b"unpacked" + data) for data in BELOW), layers.digest(content)]
    assert configuration["config"]["User"] == "65532:65532"
    assert configuration["config"]["Env"] == ["PATH=/opt/fuseml/environment/bin:/opt/venv/bin:/bin", "MPLCONFIGDIR=/tmp"]
    assert str(tmp_path).encode() not in content

    # The environment holds the trainer, which Tekton starts as `run`, and the model server, which Knative starts.
    programs = root / "opt" / "fuseml" / "environment" / "bin"
    program = "import fuseml.steps.sdk, importlib.util, tiny_ml; "
    program += "print(importlib.util.find_spec('fuseml.steps.model_server').cached, tiny_ml.__cached__)"
    modules = commands.run([programs / "python", "-I", "-c", program])
    assert all(Path(file).is_file() for file in modules.stdout.split()), "modules are compiled, because pods cannot write there"
    run = commands.run([programs / "run"], environment={"PATH": f"{programs}:/bin:/usr/bin"}, cwd=folder, code=1)
    assert run.stderr == (
        "the codeset has no MLproject, train.py, dvc.yaml or notebook: name its script or command in the step input 'entrypoint'\n"
    )


def test_layers_of_the_same_registry_are_not_sent(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    registry.auth = "token"
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    ended = build(folder, registry, wheels, account=registry.config_file())
    assert ended.code == 0, ended.err
    assert (
        len([request for request in registry.requests if request.startswith("PUT") and "uploads" in request]) == 2
    )  # the environment and the configuration


def test_layers_of_another_registry_are_copied_and_equal_contents_give_equal_images(
    tmp_path: Path, registry: oci_registry.Registry, wheels: Path
) -> None:
    one = steps.codeset(tmp_path / "one", requirements__txt="tiny-ml\n")
    other = steps.codeset(tmp_path / "other", python_env__yaml="dependencies: [tiny-ml]\n")
    with oci_registry.running(auth="basic") as target:
        first = build(one, registry, wheels, target=target, account=target.config_file())
        assert first.code == 0, first.err
        digest = first.outputs["image"].partition("@")[2]
        assert target.blobs[TARGET, oci_registry.digest_of(BELOW[0])] == BELOW[0]
    second = build(other, registry, wheels)
    assert second.outputs["image"] == f"{registry.host}/{TARGET}@{digest}"


def test_concurrent_builders_push_the_same_image(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folders = [steps.codeset(tmp_path / name, requirements__txt="tiny-ml") for name in ("one", "two")]
    ended: list[steps.CompletedStep] = []
    threads = [threading.Thread(target=lambda folder=folder: ended.append(build(folder, registry, wheels))) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended[0].outputs == ended[1].outputs != {}
    assert len(registry.tags(TARGET)) == 1


def test_the_image_of_this_machine_is_selected_from_an_index(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    with oci_registry.running() as registry:
        entries = []
        for architecture in ("s390x", "amd64", "arm64"):
            digest = registry.put_image(BASE, architecture, architecture.encode(), kind="docker", Env=VARIABLES)
            entries.append({"digest": digest, "platform": {"os": "linux", "architecture": architecture}})
        registry.put_manifest(BASE, "v1", {"mediaType": layers.DOCKER_LIST, "schemaVersion": 2, "manifests": entries})
        ended = build(folder, registry, wheels)
        assert ended.code == 0, ended.err
        manifest, configuration, _ = unpacked(registry, ended.outputs["image"].partition("@")[2], tmp_path / "root")
        assert manifest["mediaType"] == layers.DOCKER_MANIFEST
        assert configuration["config"]["Labels"]["org.opencontainers.image.base.digest"] in [entry["digest"] for entry in entries[1:]]
        del entries[1:]
        registry.put_manifest(BASE, "v1", {"mediaType": layers.DOCKER_LIST, "schemaVersion": 2, "manifests": entries})
        assert "only for linux/s390x" in build(folder, registry, wheels).err


def test_a_push_that_fails_leaves_no_image(tmp_path: Path, registry: oci_registry.Registry, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    registry.auth = "basic"
    ended = build(folder, registry, wheels, account=registry.config_file(password="canary-wrong"))
    assert (ended.code, ended.outputs, registry.tags(TARGET)) == (1, {}, [])
    assert "link a Secret" in ended.err
    assert "canary" not in ended.err + ended.out
    registry.statuses["PUT manifests"] = [(413, {})]
    ended = build(folder, registry, wheels, account=registry.config_file())
    assert (ended.code, ended.outputs, registry.tags(TARGET)) == (1, {}, [])
    assert f"the registry {registry.host} does not accept the image {registry.host}/{TARGET}:" in ended.err
    assert build(folder, registry, wheels, account=registry.config_file()).code == 0


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"FUSEML_IMAGE_REPOSITORY": "registry.example.com/Team"}, "(FUSEML_IMAGE_REPOSITORY) is 'registry.example.com/Team', which is no"),
        ({"FUSEML_IMAGE_REPOSITORY": "registry.example.com/team:1"}, "remove the tag"),
        ({"FUSEML_IMAGE_REPOSITORY": ""}, "lacks tiny-ml (not installed), and no repository for a new image is configured"),
        ({"FUSEML_TRAINER_IMAGE": "a b"}, "the trainer's image (FUSEML_TRAINER_IMAGE) is 'a b'"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(
    settings: dict[str, str], cause: str, tmp_path: Path, registry: oci_registry.Registry, wheels: Path
) -> None:
    ended = build(steps.codeset(tmp_path / "wrong", requirements__txt="tiny-ml\n"), registry, wheels, variables=settings)
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert cause in ended.err


def test_a_base_with_another_python_is_refused(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml\n")
    with oci_registry.running() as registry:
        registry.put_image(BASE, "v1", *BELOW, Env=["PYTHON_VERSION=3.4.1"])
        ended = build(folder, registry, wheels)
        assert "has Python 3.4.1 and this builder 3." in ended.err
        assert registry.tags(TARGET) == []
