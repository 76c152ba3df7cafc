"""Implementations of images: built-in modules, a container runtime (a fake one, a script), or a remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fuseml.domain import errors, plans
from fuseml.engines.local import implementations, journal, launch
from tests.contract import engines
from tests.waiting import wait_until

# Records its arguments. For `run`, it writes the length of a secret to the output `length` in the mount of /tekton/results.
RUNTIME = """#!/bin/sh
echo "$@" >> {folder}/calls
case $1 in
version) exit {exit_code};;
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
    ).find(image, "p")


def runtime(folder: Path, name: str = "podman", *, exit_code: int = 0) -> dict[str, str]:
    """Install a fake container runtime; returns an environment with it on PATH."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(RUNTIME.format(folder=folder, exit_code=exit_code))
    (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("image", "module"),
    [
        ("ghcr.io/fuseml/mlflow-builder", "mlflow_builder"),
        ("ghcr.io/fuseml/mlflow-builder:v1.0", "mlflow_builder"),
        ("ghcr.io/fuseml/predictor@sha256:abc", "predictor"),
        ("ghcr.io/fuseml/scorer:v1", "scorer"),
        ("ghcr.io/fuseml/evaluator:v1", "evaluator"),
        ("ghcr.io/fuseml/ranker:v1", "ranker"),
        ("ghcr.io/fuseml/workload:v1", "workload"),
        ("ghcr.io/fuseml/image-builder:v1", "image_builder"),
        ("fuseml.local/mlflow-trainer:host", "mlflow_trainer"),
    ],
)
def test_built_in_images_run_their_module_isolated_from_the_files_of_the_codeset(tmp_path: Path, image: str, module: str) -> None:
    implementation = find(tmp_path, image)
    assert isinstance(implementation, implementations.Native)
    assert implementation.command == (sys.executable, "-P", "-m", f"fuseml.steps.{module}")
    assert implementation.programs == Path(sys.executable).parent


def test_the_trainer_is_a_module_of_the_tools_that_train(tmp_path: Path) -> None:
    implementation = find(tmp_path, "ghcr.io/fuseml/trainer:v1")
    assert isinstance(implementation, implementations.Native)
    assert implementation.command == (sys.executable, "-P", "-m", "fuseml.workloads.trainer")


def test_the_downloads_of_the_builder_outlive_the_step(tmp_path: Path) -> None:
    implementation = find(tmp_path, "ghcr.io/fuseml/mlflow-builder:1")
    assert isinstance(implementation, implementations.Native)
    assert {"UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR"} <= set(implementation.environment)


def test_only_the_step_of_a_plan_starts_a_builder_outside_of_its_folders(tmp_path: Path) -> None:
    assert implementations.IMAGE_BUILDER == "ghcr.io/fuseml/image-builder"
    environment = {**runtime(tmp_path, "buildah"), "HOME": str(tmp_path)}
    implementation = implementations.Implementations({}, tmp_path, environment).find("ghcr.io/fuseml/image-builder:v1", "p")
    assert isinstance(implementation, implementations.Native)
    assert implementation.environment["FUSEML_BUILD_PROGRAM"] == str(tmp_path / "programs/buildah")
    store = plans.Store(extension="harbor", service="images", resource="oci-registry", url="http://r")
    built = plans.Collect(output="artifact", kind="image", name="halve", store=store)
    for collects, confined in (((), True), ((built.model_copy(update={"path": "out"}),), True), ((built,), False)):
        step = plans.StepPlan(name="build", image=plans.text("i"), collects=collects)
        values = launch.StepValues("i", (), (), "", {})
        folder = journal.RunFolder(tmp_path / "runs" / "r")
        assert launch.native(step, values, implementation, folder, {}, {}).confined is confined


def test_a_trainer_runs_in_the_environment_of_its_tag(tmp_path: Path) -> None:
    (tmp_path / "0a1b" / "bin").mkdir(parents=True)
    (tmp_path / "0a1b" / "bin" / "python").touch()
    implementation = find(tmp_path, "fuseml.local/mlflow-trainer:0a1b")
    assert isinstance(implementation, implementations.Native)
    assert implementation.command == (str(tmp_path / "0a1b/bin/python"), "-I", "-m", "fuseml.steps.mlflow_trainer")
    for missing in ("fuseml.local/mlflow-trainer:ffff", "fuseml.local/mlflow-trainer"):
        with pytest.raises(errors.PermanentError, match="build it in a step of the same run"):
            find(tmp_path, missing)


def test_configured_images_take_precedence_and_a_reference_precedes_a_name(tmp_path: Path) -> None:
    assert find(tmp_path, "my/image:1") == implementations.Native(("my", "program"))
    assert find(tmp_path, "my/image:2") == implementations.Native(("other",))
    assert find(tmp_path, "fuseml.local/shell:any") == implementations.Native(())


@pytest.mark.parametrize("image", ["", "two words", "a b:1"])
def test_an_invalid_reference_is_rejected(tmp_path: Path, image: str) -> None:
    with pytest.raises(errors.PermanentError, match="not an image reference"):
        find(tmp_path, image)


def test_an_image_without_an_implementation_fails_the_step_with_a_remedy(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("convert", "true", image="ghcr.io/acme/converter:v0.3", retries=5))
    with engines.local_engine(tmp_path, environment={"PATH": "/nowhere"}) as under_test:
        result = under_test.run(plan)
        log = under_test.log(plan, "convert")
    for text in ("'convert'", "'ghcr.io/acme/converter:v0.3'", "install podman or docker", "ghcr.io/fuseml/mlflow-builder"):
        assert text in (result.run.cause or "")
    assert result.steps["convert"].attempts == 1
    assert "install podman or docker" in log


def test_an_installed_runtime_that_does_not_respond_is_named(tmp_path: Path) -> None:
    environment = runtime(tmp_path, "docker", exit_code=1)
    plan = engines.make_plan(engines.shell("convert", "true", image="some/image:1"))
    with engines.local_engine(tmp_path, environment=environment) as under_test:
        assert "start docker (installed, but not responding)" in (under_test.run(plan).run.cause or "")


def test_other_images_run_in_a_container_with_secrets_in_its_environment_only(tmp_path: Path) -> None:
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
    plan = engines.make_plan(step)
    with engines.local_engine(tmp_path, environment=runtime(tmp_path)) as under_test:
        result = under_test.run(plan, {key.ref: "0123456789"})
        assert under_test.log(plan, "train") == "contained\n"
    assert result.steps["train"].outputs == {"length": "10"}
    probe, call = (tmp_path / "calls").read_text().splitlines()
    folder = tmp_path / "runs" / plan.id
    assert probe == "version"
    assert call == (
        f"run --rm --name fuseml-{plan.id}-train-1 --network host --security-opt label=disable"
        f" --volume {folder}/checkouts/p/c@{'a' * 40}:/project --volume {folder}/steps/train/results:/tekton/results --workdir /project"
        " --cpus 0.500 --memory 1073741824 --env KEY --env FUSEML_LR --env FUSEML_ENV_RESULTS --entrypoint run some/trainer:1 --fast"
    )


def test_a_container_that_ignores_sigterm_is_killed_by_its_runtime(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("train", "", image="some/sleeper:1"))
    with engines.local_engine(tmp_path, environment=runtime(tmp_path), grace=0.1) as under_test:
        under_test.engine.submit(plan, {})
        wait_until(lambda: "contained" in under_test.log(plan, "train"), "the container to run")
        under_test.engine.cancel(plan.id, "no")
        assert under_test.inbox.finished(plan.id).run.state == "cancelled"
    assert (tmp_path / "calls").read_text().splitlines()[-1] == f"kill fuseml-{plan.id}-train-1"


def test_a_script_is_mounted_into_the_container_and_run_by_its_interpreter(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("train", "#!/usr/bin/env python3\nprint(1)\n", image="some/trainer:1"))
    with engines.local_engine(tmp_path, environment=runtime(tmp_path)) as under_test:
        under_test.run(plan)
    call = (tmp_path / "calls").read_text().splitlines()[-1]
    assert f"{plan.id}/steps/train/script:/tekton/scripts/script:ro" in call
    assert call.endswith("--entrypoint /usr/bin/env some/trainer:1 python3 /tekton/scripts/script")
