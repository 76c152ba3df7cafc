"""The builder step: it reuses what is there, builds what is not, once, whole or not at all. No network: packages come from a folder."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests import commands
from tests.waiting import PATIENCE

from . import steps

HOST = "fuseml.local/mlflow-trainer:host"
TRAINER = "registry.example.com/fuseml/mlflow-trainer:v1"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheel of a package that no environment of ours has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_ml-1.2.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_ml-1.2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_ml.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-ml\nVersion: 1.2.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny_ml.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return folder


def variables(tmp_path: Path, wheels: Path) -> dict[str, str]:
    return {"FUSEML_ENVIRONMENTS": str(tmp_path / "environments"), "FUSEML_FIND_LINKS": str(wheels), "FUSEML_INDEX_URL": "none"}


def test_the_running_environment_is_reused_for_the_shipped_example(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "example", **{file.name.replace(".", "__"): file.read_text() for file in steps.EXAMPLE.iterdir()})
    ended = steps.run("mlflow_builder", folder, TASK_RESULT="image")
    assert ended.code == 0, ended.err
    assert ended.outputs == {"image": HOST}
    assert "the running environment already satisfies python_env.yaml: Python 3." in ended.out
    assert "mlflow 3.17" in ended.out


def test_on_a_cluster_the_trainers_image_is_said_where_it_holds_everything(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow>=3\n")
    ended = steps.run("mlflow_builder", folder, TASK_RESULT="image", FUSEML_TRAINER_IMAGE=TRAINER)
    assert (ended.code, ended.outputs) == (0, {"image": TRAINER}), ended.err


def test_on_a_cluster_what_the_trainers_image_lacks_is_told(tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow>=3\ntiny-ml==1.2.0\n")
    ended = steps.run("mlflow_builder", folder, FUSEML_TRAINER_IMAGE=TRAINER)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err.startswith(f"the image {TRAINER} lacks tiny-ml==1.2.0 (not installed), and nothing says where an image ")
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
    assert f"environment {key} is there already; nothing to build" in second.out

    environment = tmp_path / "environments" / key
    program = "import fuseml.steps.sdk, sys, tiny_ml; print(tiny_ml.ANSWER, sys.prefix)"
    found = commands.run([environment / "bin" / "python", "-I", "-c", program], environment={})
    assert found.stdout.split() == ["42", str(environment)]
    run = commands.run([environment / "bin" / "run"], environment={}, cwd=folder, code=1)
    assert run.stderr == (f"there is no MLproject file in {folder}; add one with an entry point 'main'\n")


def test_two_builders_at_once_make_one_environment(tmp_path: Path, wheels: Path) -> None:
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
    said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sum("environment with Python" in out for out in said) == 1
    assert len({(steps.results_of(folder) / "image").read_text() for folder in folders}) == 1
    assert [path.name for path in (tmp_path / "environments").iterdir() if path.suffix == ".partial"] == []


def test_a_build_that_fails_explains_itself_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", conda__yaml="dependencies: [{pip: [tiny-ml, no-such-thing==9]}]")
    ended = steps.run("mlflow_builder", folder, **variables(tmp_path, wheels))
    assert (ended.code, ended.outputs, ended.err.count("\n")) == (1, {}, 1)
    assert ended.err.startswith("cannot install what conda.yaml asks for: ")
    assert "no-such-thing" in ended.err
    assert [path for path in (tmp_path / "environments").iterdir() if path.suffix != ".lock"] == []


def test_conda_packages_are_taken_from_python_and_noted(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", conda__yaml="channels: [mine]\ndependencies: [tiny-ml=1.2]", requirements__txt="ignored")
    ended = steps.run("mlflow_builder", folder, **variables(tmp_path, wheels))
    assert ended.code == 0, ended.err
    assert "note: conda.yaml: the conda channel 'mine' is not used" in ended.out
    assert "note: conda.yaml: taken from the Python package index instead of conda: tiny-ml==1.2.*" in ended.out


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({}, "no dependency file in wrong: add one of conda.yaml, python_env.yaml, requirements.txt"),
        ({"MLproject": "python_env: env.yaml"}, "cannot read the file 'env.yaml' of the codeset: No such file or directory"),
        ({"MLproject": "conda_env: ../../env.yaml"}, "'../../env.yaml' lies outside of the codeset"),
        ({"MLproject": "docker_env: {image: busybox}"}, "MLproject: docker_env: there is nothing to build for the image busybox"),
        ({"MLproject": "python_env: [env.yaml]"}, "MLproject: python_env: must be text, not a list"),
        ({"conda__yaml": "dependencies: {a: b}"}, "conda.yaml: dependencies: must be a list"),
        ({"requirements__txt": "no-such-thing"}, "FUSEML_ENVIRONMENTS does not say in which folder"),
    ],
)
def test_what_is_wrong_is_one_line(files: dict[str, str], cause: str, tmp_path: Path) -> None:
    ended = steps.run("mlflow_builder", steps.codeset(tmp_path / "wrong", **files))
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert cause in ended.err


def test_without_uv_the_message_says_what_to_install(tmp_path: Path, wheels: Path) -> None:
    folder = steps.codeset(tmp_path / "codeset", requirements__txt="tiny-ml")
    # -S hides the site packages, where the uv package may be; what the step needs of them is put on the path by hand.
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
    assert ended.stderr == "the program 'uv' is needed to make an environment and is not there: install it with 'pip install uv'\n"
