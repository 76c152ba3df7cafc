"""`docker_env` of MLproject on a cluster: the builder puts the steps on the image that it names, and they run with its Python."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import commands

from . import oci_registry, steps
from .test_steps_images import BELOW, TARGET, build, unpacked

PROJECT = """
name: in an image
docker_env:
  image: {image}
  volumes: ["/data:/data"]
  environment: [[ALPHA, "0.5"], HOST_TOKEN]
entry_points:
  main: {{command: "python train.py"}}
"""
TRAINING = """
import os, sys, mlflow
with mlflow.start_run():
    mlflow.log_metric("alpha", float(os.environ["ALPHA"]))
    mlflow.log_dict({"python": sys.executable}, "python.json")
"""


@dataclass(frozen=True)
class Built:
    """A codeset, the registry with the image that the builder made for it, and the programs of the image's layer in a folder."""

    codeset: Path
    registry: oci_registry.Registry
    ended: steps.CompletedStep
    programs: Path


@pytest.fixture
def registry() -> Iterator[oci_registry.Registry]:
    with registry_of_the_team() as registry:
        yield registry


@contextlib.contextmanager
def registry_of_the_team() -> Iterator[oci_registry.Registry]:
    with oci_registry.running() as registry:
        registry.put_image("team/science", "v2", *BELOW, Env=["PATH=/opt/conda/bin:/bin", "LANG=C.UTF-8"], User="1000")
        yield registry


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("docker-env")
    with registry_of_the_team() as registry:
        made = codeset(folder / "imaged", registry)
        ended = build(made, registry, folder)
        assert ended.code == 0, ended.err
        unpacked(registry, digest_of(ended), folder / "root")
        yield Built(made, registry, ended, folder / "root" / "opt" / "fuseml" / "environment" / "bin")


def codeset(folder: Path, registry: oci_registry.Registry) -> Path:
    return steps.codeset(folder, MLproject=PROJECT.format(image=f"{registry.host}/team/science:v2"), train__py=TRAINING)


def digest_of(ended: steps.CompletedStep) -> str:
    return ended.outputs["image"].partition("@")[2]


def test_the_image_is_the_one_of_docker_env_with_the_steps_on_top(built: Built, tmp_path: Path) -> None:
    registry, image = built.registry, built.ended.outputs["image"]
    assert image.startswith(f"{registry.host}/{TARGET}@sha256:")
    manifest, configuration, _ = unpacked(registry, digest_of(built.ended), tmp_path / "root")
    assert [layer["digest"] for layer in manifest["layers"][:-1]] == [oci_registry.digest_of(data) for data in BELOW]
    assert configuration["config"]["Env"] == [
        "PATH=/opt/fuseml/environment/bin:/opt/conda/bin:/bin",
        "LANG=C.UTF-8",
        "ALPHA=0.5",
        f"FUSEML_BASE_IMAGE={registry.host}/team/science:v2",
    ]
    assert "note: docker_env.environment: HOST_TOKEN: nothing is copied from a host" in built.ended.out
    assert "note: docker_env.volumes has no effect" in built.ended.out
    carried = built.programs.parent / "packages" / "fuseml" / "steps"
    assert all((carried / f"{name}.py").is_file() for name in ("mlflow_trainer", "model_server", "scorer", "evaluator"))
    again = build(built.codeset, registry, tmp_path)
    assert again.outputs == built.ended.outputs
    assert "exists; nothing to build" in again.out


def test_the_training_runs_with_the_python_of_the_image(built: Built, mlflow_server: str) -> None:
    of_image = Path(sys.executable).parent
    variables = steps.environment(built.codeset, {"MLFLOW_TRACKING_URI": mlflow_server, "FUSEML_MODEL": "none", "ALPHA": "0.5"})
    del variables["PYTHONPATH"]
    path = f"{built.programs}:{of_image}:/usr/bin:/bin"
    ended = commands.run([built.programs / "run"], cwd=built.codeset, environment={**variables, "PATH": path})
    metrics = (steps.results_of(built.codeset) / "metrics").read_text()
    assert json.loads(metrics) == {"alpha": 0.5}, ended.stdout
    # Other programs are those of the image.
    shown = commands.run(["python", "-I", "-c", "import sys; print(sys.executable, sys.flags.isolated)"], environment={"PATH": path})
    assert shown.stdout.split() == [str(of_image / "python3"), "1"]


def test_an_image_without_the_needs_of_a_step_is_reported_in_one_sentence(built: Built, tmp_path: Path) -> None:
    programs = built.programs

    def failure(python: Path | None, module: str = "mlflow_trainer") -> str:
        variables = {"PATH": os.pathsep.join([str(programs), *([str(python)] if python else [])]), "FUSEML_BASE_IMAGE": "team/science:v2"}
        ended = commands.run([programs / "python", "-I", "-u", "-m", f"fuseml.steps.{module}"], environment=variables, code=None)
        assert ended.returncode != 0
        assert ended.stderr.count("\n") == 1
        return ended.stderr

    assert "the image team/science:v2 has no Python on its PATH" in failure(None)
    old = tmp_path / "old"
    old.mkdir()
    (old / "python").write_text("#!/bin/sh\nexit 1\n")
    (old / "python").chmod(0o755)
    assert f"the image team/science:v2 has a Python older than 3.8 as {old}/python" in failure(old)
    commands.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")])
    bare = tmp_path / "bare" / "bin"
    assert "without mlflow, yaml, which fuseml.steps.mlflow_trainer needs: install mlflow in it" in failure(bare)
    assert "without mlflow, yaml, starlette, uvicorn, which fuseml.steps.model_server needs" in failure(bare, "model_server")


def test_the_input_dependencies_takes_precedence(tmp_path: Path, registry: oci_registry.Registry) -> None:
    folder = codeset(tmp_path / "codeset", registry)
    (folder / "requirements.txt").write_text("mlflow\n")
    ended = build(folder, registry, tmp_path, variables={"FUSEML_DEPENDENCIES": "requirements.txt"})
    assert ended.code == 0, ended.err
    assert ended.outputs["image"] == f"{registry.host}/fuseml/mlflow-trainer:v1"


def test_a_missing_image_and_a_missing_repository_are_reported(tmp_path: Path, registry: oci_registry.Registry) -> None:
    folder = codeset(tmp_path / "codeset", registry)
    ended = build(folder, registry, tmp_path, variables={"FUSEML_IMAGE_REPOSITORY": ""})
    assert "and no repository for a new image is configured" in ended.err
    registry.manifests.clear()
    ended = build(folder, registry, tmp_path)
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert "team/science" in ended.err
