"""From an image to what runs it: built-in implementations, a container runtime (played by a script), or advice."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fuseml.domain import errors, plans
from fuseml.engines.local import implementations
from tests.contract import engines

# Notes its arguments, and plays `run`: writes an output where /tekton/results is mounted, prints a secret's length, obeys a script.
RUNTIME = """#!/bin/sh
echo "$@" >> {folder}/calls
case $1 in
version) exit {answer};;
kill) exit 0;;
run)
  results=$(echo "$*" | sed -n 's|.* \\([^ ]*\\):/tekton/results .*|\\1|p')
  printf %s "${{#KEY}}" > "$results/length"
  echo contained
  case "$*" in *sleeper*) trap '' TERM; sleep 60;; esac
esac
"""


def find(tmp_path: Path, image: str) -> implementations.Native | implementations.Container:
    return implementations.Implementations(
        {"my/image": ["my", "program"], "my/image:2": ["other"]}, tmp_path, {"PATH": str(tmp_path)}
    ).find(image)


def runtime(folder: Path, name: str = "podman", *, answer: int = 0) -> dict[str, str]:
    """Install a fake container runtime; returns the environment in which it is found."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(RUNTIME.format(folder=folder, answer=answer))
    (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("image", "module"),
    [
        ("ghcr.io/fuseml/mlflow-builder", "mlflow_builder"),
        ("ghcr.io/fuseml/mlflow-builder:v1.0", "mlflow_builder"),
        ("ghcr.io/fuseml/predictor@sha256:abc", "predictor"),
        ("fuseml.local/mlflow-trainer:host", "mlflow_trainer"),
    ],
)
def test_built_in_images_run_their_module_safe_from_the_files_of_the_codeset(tmp_path: Path, image: str, module: str) -> None:
    found = find(tmp_path, image)
    assert isinstance(found, implementations.Native)
    assert found.command == (sys.executable, "-P", "-m", f"fuseml.steps.{module}")
    assert found.programs == Path(sys.executable).parent


def test_what_the_builder_downloads_outlives_the_step(tmp_path: Path) -> None:
    found = find(tmp_path, "ghcr.io/fuseml/mlflow-builder:1")
    assert isinstance(found, implementations.Native)
    assert {"UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR"} <= set(found.environment)


def test_a_trainer_runs_in_the_environment_that_its_tag_names(tmp_path: Path) -> None:
    (tmp_path / "0a1b" / "bin").mkdir(parents=True)
    (tmp_path / "0a1b" / "bin" / "python").touch()
    found = find(tmp_path, "fuseml.local/mlflow-trainer:0a1b")
    assert isinstance(found, implementations.Native)
    assert found.command == (str(tmp_path / "0a1b/bin/python"), "-I", "-m", "fuseml.steps.mlflow_trainer")
    for missing in ("fuseml.local/mlflow-trainer:ffff", "fuseml.local/mlflow-trainer"):
        with pytest.raises(errors.PermanentError, match="let a builder step"):
            find(tmp_path, missing)


def test_given_images_come_first_and_a_whole_reference_before_a_name(tmp_path: Path) -> None:
    assert find(tmp_path, "my/image:1") == implementations.Native(("my", "program"))
    assert find(tmp_path, "my/image:2") == implementations.Native(("other",))
    assert find(tmp_path, "fuseml.local/shell:any") == implementations.Native(())


@pytest.mark.parametrize("image", ["", "two words", "a b:1"])
def test_what_is_no_reference_is_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(errors.PermanentError, match="not an image reference"):
        find(tmp_path, image)


def test_an_image_that_nothing_can_run_fails_the_step_with_advice(tmp_path: Path) -> None:
    planned = engines.make_plan(engines.shell("convert", "true", image="ghcr.io/fuseml/ovms-converter:v0.3", retries=5))
    with engines.local_engine(tmp_path, environment={"PATH": "/nowhere"}) as under:
        ended = under.run(planned)
        log = under.log(planned, "convert")
    for text in ("'convert'", "'ghcr.io/fuseml/ovms-converter:v0.3'", "install podman or docker", "ghcr.io/fuseml/mlflow-builder"):
        assert text in (ended.run.cause or "")
    assert ended.steps["convert"].attempts == 1
    assert "install podman or docker" in log


def test_a_runtime_that_is_installed_but_does_not_answer_is_named(tmp_path: Path) -> None:
    environment = runtime(tmp_path, "docker", answer=1)
    planned = engines.make_plan(engines.shell("convert", "true", image="some/image:1"))
    with engines.local_engine(tmp_path, environment=environment) as under:
        assert "start docker (it is installed but does not answer)" in (under.run(planned).run.cause or "")


def test_other_images_run_in_a_container_that_gets_secrets_by_environment_only(tmp_path: Path) -> None:
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")
    key = engines.secret("KEY")
    step = plans.StepPlan(
        name="train",
        image=plans.text("some/trainer:1"),
        args=(plans.text("--fast"),),
        checkouts=(checkout,),
        outputs=(plans.Output(name="length"),),
        variables=(plans.Variable(name="KEY", value=(key,)), plans.Variable(name="FUSEML_LR", value=plans.text("0.1"))),
        resources=plans.Resources(limits={"cpu": "500m", "memory": "1Gi"}),
    )
    planned = engines.make_plan(step)
    with engines.local_engine(tmp_path, environment=runtime(tmp_path)) as under:
        ended = under.run(planned, {key.ref: "0123456789"})
        assert under.log(planned, "train") == "contained\n"
    assert ended.steps["train"].outputs == {"length": "10"}
    asked, call = (tmp_path / "calls").read_text().splitlines()
    folder = tmp_path / "runs" / planned.id
    assert asked == "version"
    assert call == (
        f"run --rm --name fuseml-{planned.id}-train-1 --network host --security-opt label=disable"
        f" --volume {folder}/checkouts/p/c@{'a' * 40}:/project --volume {folder}/steps/train/results:/tekton/results --workdir /project"
        " --cpus 0.500 --memory 1073741824 --env KEY --env FUSEML_LR --env FUSEML_ENV_RESULTS --entrypoint run some/trainer:1 --fast"
    )


def test_a_container_that_ignores_the_signal_is_killed_through_its_runtime(tmp_path: Path) -> None:
    planned = engines.make_plan(engines.shell("train", "", image="some/sleeper:1"))
    with engines.local_engine(tmp_path, environment=runtime(tmp_path), grace=0.1) as under:
        under.engine.submit(planned, {})
        deadline = time.monotonic() + engines.PATIENCE
        while "contained" not in under.log(planned, "train"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        under.engine.cancel(planned.id, "no")
        assert under.inbox.finished(planned.id).run.state == "cancelled"
    assert (tmp_path / "calls").read_text().splitlines()[-1] == f"kill fuseml-{planned.id}-train-1"


def test_a_script_for_a_container_is_mounted_and_run_by_its_interpreter(tmp_path: Path) -> None:
    planned = engines.make_plan(engines.shell("train", "#!/usr/bin/env python3\nprint(1)\n", image="some/trainer:1"))
    with engines.local_engine(tmp_path, environment=runtime(tmp_path)) as under:
        under.run(planned)
    call = (tmp_path / "calls").read_text().splitlines()[-1]
    assert f"{planned.id}/steps/train/script:/tekton/scripts/script:ro" in call
    assert call.endswith("--entrypoint /usr/bin/env some/trainer:1 python3 /tekton/scripts/script")
