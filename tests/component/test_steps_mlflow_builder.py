"""The builder step: it reuses an existing environment or builds it, once and atomically. Packages come from a folder, not the network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import commands
from tests.waiting import PATIENCE

from . import steps
from . import wheels as packages

HOST = "fuseml.local/mlflow-trainer:host"
TRAINER = "registry.example.com/fuseml/mlflow-trainer:v1"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheel of a package that is not installed here, and with those that the builder adds."""
    return packages.folder(tmp_path / "wheels")


def variables(tmp_path: Path, wheels: Path) -> dict[str, str]:
    return {"FUSEML_ENVIRONMENTS": str(tmp_path / "environments"), "FUSEML_FIND_LINKS": str(wheels), "FUSEML_INDEX_URL": "none"}


def test_the_running_environment_is_reused_for_the_shipped_example(tmp_path: Path) -> None:
    folder = steps.codeset(
        tmp_path / "example", **{file.name.replace(".", "__"): file.read_text() for file in steps.EXAMPLE.iterdir() if file.is_file()}
    )
    ended = steps.run("mlflow_builder", folder, TASK_RESULT="image")
    assert ended.code == 0, ended.err
    assert ended.outputs == {"image": HOST}
    assert "the running environment already satisfies python_env.yaml: Python 3." in ended.out
    assert "mlflow 3.17" in ended.out


def test_on_a_cluster_the_trainers_image_is_reused_if_it_satisfies_the_file(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow>=3\n")
    ended = steps.run("mlflow_builder", folder, TASK_RESULT="image", FUSEML_TRAINER_IMAGE=TRAINER)
    assert (ended.code, ended.outputs) == (0, {"image": TRAINER}), ended.err


def test_on_a_cluster_the_unmet_requirements_of_the_trainers_image_are_reported(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow>=3\ntiny-ml==1.2.0\n")
    ended = steps.run("mlflow_builder", folder, FUSEML_TRAINER_IMAGE=TRAINER)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err.startswith(
        f"the image {TRAINER} lacks tiny-ml==1.2.0 (not installed), and no repository for a new image is configured"
    )
    assert "FUSEML_IMAGE_REPOSITORY" in ended.err


def test_an_environment_is_built_once_for_a_content(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="Tiny_ML==1.2.0\n")
    first = steps.run("mlflow_builder", folder, TASK_RESULT="trainer-image", **variables(tmp_path, wheels))
    assert first.code == 0, first.err
    assert "the running environment lacks tiny-ml==1.2.0 (not installed)" in first.out
    image, key = first.outputs["trainer-image"], first.outputs["image"].rpartition(":")[2]
    assert image == f"fuseml.local/mlflow-trainer:{key}"
    (folder / "requirements.txt").write_text("# the same, in other words\ntiny-ml == 1.2.0\n")
    second = steps.run("mlflow_builder", folder, **variables(tmp_path, wheels))
    assert second.outputs["image"] == image
    assert f"environment {key} exists; nothing to build" in second.out

    environment = tmp_path / "environments" / key
    program = "import fuseml.steps.sdk, sys, tiny_ml; print(tiny_ml.ANSWER, sys.prefix)"
    installed = commands.run([environment / "bin" / "python", "-I", "-c", program], environment={})
    assert installed.stdout.split() == ["42", str(environment)]
    run = commands.run([environment / "bin" / "run"], environment={}, cwd=folder, code=1)
    assert run.stderr.startswith("the codeset has no MLproject, train.py, dvc.yaml or notebook: name its script or command")


def test_concurrent_builders_build_one_environment(tmp_path: Path, wheels: Path) -> None:
    folders = [steps.codeset(tmp_path / name, requirements__txt="tiny-ml") for name in ("one", "two")]
    started = [
        subprocess.Popen(
            steps.command("mlflow_builder"),
            cwd=folder,
            env=steps.environment(folder, variables(tmp_path, wheels)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    logs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sum("environment with Python" in log for log in logs) == 1
    assert len({(steps.results_of(folder) / "image").read_text() for folder in folders}) == 1
    assert [path.name for path in (tmp_path / "environments").iterdir() if path.suffix == ".partial"] == []


def test_a_failed_build_reports_its_cause_and_leaves_no_folder(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", conda__yaml="dependencies: [{pip: [tiny-ml, no-such-thing==9]}]")
    ended = steps.run("mlflow_builder", folder, **variables(tmp_path, wheels))
    assert (ended.code, ended.outputs, ended.err.count("\n")) == (1, {}, 1)
    assert ended.err.startswith("cannot install the requirements of conda.yaml: ")
    assert "no-such-thing" in ended.err
    assert [path for path in (tmp_path / "environments").iterdir() if path.suffix != ".lock"] == []


def test_conda_packages_are_read_as_python_packages_and_noted(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", conda__yaml="channels: [mine]\ndependencies: [pytorch=1.2, cudatoolkit]")
    ended = steps.run("mlflow_builder", folder, **variables(tmp_path, wheels))
    assert ended.code == 0, ended.err
    assert "note: conda.yaml: the conda channel 'mine' is not used" in ended.out
    assert "note: conda.yaml: taken from the Python package index instead of conda: torch==1.2.*" in ended.out


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"MLproject": "python_env: env.yaml"}, "cannot read the file 'env.yaml' of the codeset: No such file or directory"),
        ({"MLproject": "conda_env: ../../env.yaml"}, "'../../env.yaml' is outside the codeset"),
        ({"MLproject": "docker_env: {image: busybox}"}, "MLproject: docker_env: only a cluster trains in the image busybox"),
        ({"MLproject": "docker_env: {volumes: [a]}"}, "MLproject: docker_env.image: is missing"),
        ({"MLproject": "docker_env: {image: a, environment: [[A]]}"}, "docker_env.environment: must be a list of names of variables and"),
        ({"MLproject": "python_env: [env.yaml]"}, "MLproject: python_env: must be text, not a list"),
        ({"conda__yaml": "dependencies: {a: b}"}, "conda.yaml: dependencies: must be a list"),
        ({"requirements__txt": "no-such-thing"}, "FUSEML_ENVIRONMENTS is not set"),
    ],
)
def test_an_invalid_codeset_is_reported_in_one_line(files: dict[str, str], cause: str, tmp_path: Path) -> None:
    ended = steps.run("mlflow_builder", steps.codeset(tmp_path / "wrong", **files))
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert cause in ended.err


@pytest.mark.parametrize("name", ["extras", "groups"])
def test_an_image_of_docker_env_has_no_extras_or_groups(tmp_path: Path, name: str) -> None:
    folder = steps.codeset(tmp_path / "imaged", MLproject="docker_env: {image: science}")
    ended = steps.run("mlflow_builder", folder, FUSEML_TRAINER_IMAGE="trainer", **{f"FUSEML_{name.upper()}": "plots"})
    assert (ended.code, ended.outputs) == (1, {})
    assert "the image of docker_env has no extras or groups: remove the inputs" in ended.err


def test_packages_that_an_image_of_docker_env_must_have_are_named(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "imaged", MLproject="docker_env: {image: science}", train__ipynb='{"cells": []}')
    ended = steps.run("mlflow_builder", folder, FUSEML_TRAINER_IMAGE="trainer", FUSEML_ENTRYPOINT="train.ipynb")
    assert "note: the codeset's program needs papermill" in ended.out
    assert "so it must have it" in ended.out


def test_a_missing_uv_is_reported_with_its_installation(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml")
    # -S hides the site packages, which may hold uv; the step's own dependencies are put on the path by hand.
    import packaging
    import yaml

    (tmp_path / "few").mkdir()
    for module in (packaging, yaml):
        assert module.__file__ is not None
        source = Path(module.__file__).parent
        (tmp_path / "few" / source.name).symlink_to(source)
    settings = {**variables(tmp_path, wheels), "PATH": "/nowhere", "PYTHONPATH": f"{steps.PACKAGES}:{tmp_path / 'few'}"}
    command = [steps.command("mlflow_builder")[0], "-S", "-m", "fuseml.steps.mlflow_builder"]
    ended = commands.run(command, cwd=folder, environment=steps.environment(folder, settings), code=None)
    assert ended.stderr == "the program 'uv', which builds environments, is missing: install it with 'pip install uv'\n"
