"""Environments of each kind of dependency file, built by the real uv from a folder of wheels."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuseml.steps import needs, occupancy, uv
from tests import commands, pythons
from tests.waiting import wait_until

from . import steps, wheels

# A build backend without requirements, in the project itself.
BACKEND = """
import zipfile
def build_wheel(folder, settings=None, metadata=None):
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as archive:
        archive.write("mine.py")
        archive.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\nRequires-Dist: tiny-ml\\n")
        archive.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: mine\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("mine-1.0.dist-info/RECORD", "")
    return name
build_editable = build_wheel
"""
# A build that does not end.
SLOW = """
import pathlib, time
def build_wheel(folder, settings=None, metadata=None):
    pathlib.Path("started").touch()
    time.sleep(1000)
"""
PROJECT = """
[project]
name = "mine"
version = "1.0"
requires-python = ">=3.9"
dependencies = ["tiny-ml"]
[project.optional-dependencies]
train = ["torch"]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.folder(tmp_path_factory.mktemp("links") / "wheels")


@pytest.fixture
def codeset(tmp_path: Path) -> Path:
    """A codeset with a project of its own."""
    return steps.codeset(tmp_path / "codeset", backend__py=BACKEND, mine__py="ANSWER = 43\n")


def build(codeset: Path, links: Path | None, **variables: str) -> tuple[steps.CompletedStep, Path]:
    """The builder's run, and the folder of its environment."""
    place = codeset.with_name("environments")
    given = {"FUSEML_ENVIRONMENTS": str(place), "FUSEML_INDEX_URL": "none", **({"FUSEML_FIND_LINKS": str(links)} if links else {})}
    ended = steps.run("mlflow_builder", codeset, **{**given, **variables})
    return ended, place / ended.outputs.get("image", "").rpartition(":")[2]


def python(environment: Path, program: str) -> str:
    return commands.run([environment / "bin" / "python", "-I", "-c", program], environment={}).stdout.strip()


def test_uv_reads_a_requirements_file_with_all_that_pip_knows(codeset: Path, links: Path) -> None:
    shutil.copytree(links, codeset / "wheels")
    (codeset / "req").mkdir()
    (codeset / "requirements.txt").write_text("--find-links ./wheels\n-r req/more.txt\n-c req/limits.txt\nmlflow\n", encoding="utf-8-sig")
    (codeset / "req" / "more.txt").write_text("-e .\n-r last.txt\n", encoding="utf-16")
    (codeset / "req" / "last.txt").write_text("torch ; python_version >= '3'\n")
    (codeset / "req" / "limits.txt").write_text("torch<2\n")
    (codeset / "pyproject.toml").write_text(PROJECT.partition("[project]")[0] + "[build-system]" + PROJECT.partition("[build-system]")[2])
    ended, environment = build(codeset, None)
    assert ended.code == 0, ended.err
    assert "dependencies: requirements.txt (" in ended.out
    assert "note: req/more.txt: '-e .' is installed as a copy" in ended.out
    shutil.rmtree(codeset)
    assert python(environment, "import mine, tiny_ml, torch, mlflow; print(mine.ANSWER, tiny_ml.ANSWER)") == "43 42"


def test_a_project_is_installed_with_its_extras_and_again_when_it_changes(codeset: Path, links: Path) -> None:
    (codeset / "pyproject.toml").write_text(PROJECT)
    ended, environment = build(codeset, links, FUSEML_EXTRAS="train")
    assert ended.code == 0, ended.err
    assert "note: pyproject.toml does not list mlflow, which records the training and serves the model: it is added" in ended.out
    assert python(environment, "import mine, torch, mlflow; print(mine.ANSWER)") == "43"
    again, same = build(codeset, links, FUSEML_EXTRAS="train")
    assert "exists; nothing to build" in again.out
    (codeset / "mine.py").write_text("ANSWER = 44\n")
    _, other = build(codeset, links, FUSEML_EXTRAS="train")
    assert (same, python(other, "import mine; print(mine.ANSWER)")) == (environment, "44")


def test_a_lock_of_uv_and_its_export_are_installed_as_they_are(codeset: Path, links: Path) -> None:
    (codeset / "pyproject.toml").write_text(PROJECT)
    program = uv.Uv(codeset, "none", str(links))
    program.run(["lock"], "no lock")
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert "dependencies: uv.lock (not used: pyproject.toml)" in ended.out
    assert python(environment, "import mine, tiny_ml, mlflow; print(mine.ANSWER)") == "43"

    (codeset / "pylock.toml").write_text(
        program.output(["export", "--frozen", "--no-emit-project", "--format", "pylock.toml"], "no export")
    )
    (codeset / "uv.lock").unlink()
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert "dependencies: pylock.toml" in ended.out
    assert python(environment, "import tiny_ml, mlflow; print(tiny_ml.ANSWER)") == "42"


def test_a_killed_builder_leaves_nothing_that_counts_as_an_environment(codeset: Path, links: Path) -> None:
    (codeset / "pyproject.toml").write_text(PROJECT)
    (codeset / "backend.py").write_text(SLOW)
    place = codeset.with_name("environments")
    given = {"FUSEML_ENVIRONMENTS": str(place), "FUSEML_INDEX_URL": "none", "FUSEML_FIND_LINKS": str(links)}
    with subprocess.Popen(
        steps.command("mlflow_builder"),
        cwd=codeset,
        env=steps.environment(codeset, given),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_until((codeset / "started").exists, "the build of the project starts")
        os.killpg(process.pid, signal.SIGKILL)  # as an engine does, with all descendants
    assert [path.name for path in place.iterdir() if path.is_dir() and not path.name.endswith(".partial")] == []
    (codeset / "backend.py").write_text(BACKEND)
    (codeset / "started").unlink()
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert python(environment, "import mine; print(mine.ANSWER)") == "43"


def test_the_model_servers_packages_are_beside_those_of_the_codeset(codeset: Path, links: Path) -> None:
    (codeset / "requirements.txt").write_text("mlflow\nuvicorn\ntiny-ml\n")
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert "added for the model server only: starlette" in ended.out
    assert (
        python(environment, "import importlib.util as u; print(u.find_spec('starlette'), u.find_spec('uvicorn') is not None)")
        == "None True"
    )
    after = "import sys; from fuseml.steps import needs; before = list(sys.path); "
    after += "needs.add_server_packages(); import starlette; print(sys.path[:-1] == before)"
    assert python(environment, after) == "True"
    reported = commands.run([environment / "bin" / "python", "-I", "-m", "fuseml.steps.needs"], environment={}).stdout
    assert json.loads(reported) == {"trainer": [], "server": []}
    assert {path.name for path in (environment / needs.SERVER_FOLDER).iterdir()} >= {"starlette.py"}


def test_a_missing_server_package_does_not_end_the_build(codeset: Path, tmp_path: Path) -> None:
    (codeset / "requirements.txt").write_text("mlflow\ntiny-ml\n")
    ended, environment = build(codeset, wheels.folder(tmp_path / "few", "mlflow", "pyyaml", "tiny-ml"))
    assert ended.code == 0, ended.err
    assert "note: a model of this environment cannot be served from it" in ended.out
    assert environment.is_dir()


def test_an_environment_without_the_trainers_needs_is_refused(codeset: Path, tmp_path: Path) -> None:
    (codeset / "requirements.txt").write_text("mlflow-skinny\ntiny-ml\n")
    folder = wheels.folder(tmp_path / "few", "tiny-ml")
    name, content = wheels.wheel("mlflow-skinny", "3.0", "mlflow", "STAND_IN = True\n")
    (folder / name).write_bytes(content)
    ended, environment = build(codeset, folder)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err == "the environment of requirements.txt lacks yaml, which the trainer needs; add mlflow to the file\n"
    assert [path for path in environment.iterdir() if path.is_dir()] == []


def test_every_python_process_of_an_environment_holds_its_lock(codeset: Path, links: Path) -> None:
    (codeset / "requirements.txt").write_text("mlflow\ntiny-ml\n")
    _, environment = build(codeset, links)
    program = "print('started', flush=True); input()"
    with (environment / occupancy.LOCK).open("rb") as lock:
        with subprocess.Popen(
            [environment / "bin" / "python", "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process.kill()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_build_counts_as_a_use(codeset: Path, links: Path) -> None:

    (codeset / "requirements.txt").write_text("mlflow\ntiny-ml\n")
    _, environment = build(codeset, links)
    os.utime(environment, (1, 1))
    build(codeset, links)
    assert environment.stat().st_mtime > 1


def test_without_a_file_the_built_in_environment_is_used(codeset: Path) -> None:
    ended, _ = build(codeset, None)
    assert ended.outputs == {"image": "fuseml.local/mlflow-trainer:host"}
    assert "no file describes an environment (uv.lock, pylock.toml, pyproject.toml" in ended.out


MICROMAMBA = f"""#!/bin/sh
echo "micromamba $*"
grep -q broken environment.yml && echo "error    libmamba Could not solve for environment specs" && exit 1
while [ "$1" != --prefix ]; do shift; done
{sys.executable} -m venv --without-pip "$2"
"""


@pytest.fixture
def micromamba(tmp_path: Path) -> str:
    """A PATH with a program that makes environments as micromamba does: at their final path."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "micromamba"
    program.write_text(MICROMAMBA)
    program.chmod(0o755)
    return f"{tmp_path / 'bin'}:/usr/bin:/bin"


def test_micromamba_makes_the_environment_of_a_conda_file(codeset: Path, links: Path, micromamba: str) -> None:
    (codeset / "environment.yml").write_text("channels: [conda-forge]\ndependencies: [python, our-own-tools=1]\n")
    ended, environment = build(codeset, links, PATH=micromamba)
    assert ended.code == 0, ended.err
    assert f"micromamba create --yes --quiet --prefix {environment} --file environment.yml" in ended.out
    assert python(environment, "import sys, mlflow; print(sys.prefix)") == str(environment)
    (environment / "bin" / "run").unlink()  # as after a kill
    again, _ = build(codeset, links, PATH=micromamba)
    assert "building an environment for environment.yml with micromamba" in again.out
    assert (environment / "bin" / "run").is_file()


def test_a_failure_of_micromamba_is_the_cause_and_leaves_no_folder(codeset: Path, links: Path, micromamba: str) -> None:
    (codeset / "environment.yml").write_text("dependencies: [python, broken]\n")
    ended, environment = build(codeset, links, PATH=micromamba)
    assert ended.code == 1
    assert ended.err.startswith("micromamba cannot create the environment of environment.yml: ")
    assert "Could not solve for environment specs" in ended.err
    assert [path for path in environment.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"FUSEML_ACCELERATOR": "fast"}, "the input 'accelerator' is 'fast': use auto, index, cpu, or a build such as cu128 or rocm6.3"),
        ({"FUSEML_EXTRAS": "a"}, "requirements.txt has no extras or groups"),
        ({"FUSEML_DEPENDENCIES": "no.txt"}, "the input 'dependencies' names 'no.txt', and the codeset has no such file"),
    ],
)
def test_a_wrong_input_is_refused_before_anything_is_built(variables: dict[str, str], cause: str, codeset: Path, links: Path) -> None:
    (codeset / "requirements.txt").write_text("tiny-ml\n")
    ended, environment = build(codeset, links, **variables)
    assert ended.code == 1
    assert cause in ended.err
    assert not environment.exists()


@pythons.needs_oldest
@pytest.mark.parametrize("written", ["3.8", "3.8.1"])
def test_an_environment_of_the_oldest_python_has_trainer_and_model_server(written: str, codeset: Path, links: Path) -> None:
    (codeset / "python_env.yaml").write_text(f'python: "{written}"\ndependencies: [mlflow]\n')
    ended, environment = build(codeset, links, PATH=f"{pythons.OLDEST.parent}:/usr/bin:/bin", UV_PYTHON_DOWNLOADS="never")
    assert ended.code == 0, ended.err
    assert ("note: Python ==3.8.1 cannot be had; another release of ==3.8.* is used" in ended.out) == (written == "3.8.1")
    run = commands.run([environment / "bin" / "run"], environment={"PATH": "/bin:/usr/bin"}, cwd=codeset, code=1)
    assert run.stderr == (
        "the codeset has no MLproject, train.py, dvc.yaml or notebook: name its script or command in the step input 'entrypoint'; "
        "its scripts: backend.py, mine.py\n"
    )
    assert python(environment, "import sys; print(sys.version_info[:2])") == "(3, 8)"
