"""Pipelines of DVC as workflows: the order of the steps, the data that each pulls, and refusals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.cli import main
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.workflows import dvc_pipeline, loading
from tests import commands
from tests.component import githost

PIPELINE = """
stages:
  evaluate:
    cmd: python evaluate.py
    deps: [models/model.pkl, evaluate.py, data/test.csv]
    metrics: [scores.json: {cache: false}]
  train:
    cmd: [python train.py, "true"]
    deps: [train.py, prepared, s3://elsewhere/x]
    params: [alpha]
    outs: [models: {persist: true}]
  prepare_all:
    foreach: [a, b]
    do: {cmd: python prepare.py, wdir: src, deps: [../raw], outs: [../prepared]}
"""
AROUND = dvc_pipeline.Surroundings(
    ["raw/images", "raw/one two.csv", "data/test.csv", "unused.csv", "prepared"], "gs://team/dvc", "ml", True
)


def inputs(step: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("codeset")) for item in step["inputs"]}


def test_each_stage_becomes_a_step_that_pulls_what_it_reads() -> None:
    made = dvc_pipeline.workflow("churn", PIPELINE, AROUND, model="train")
    loading.check(document.Parsed(made))
    builder, *steps = made["steps"]
    assert inputs(builder)["data"] == "raw/images 'raw/one two.csv' data/test.csv"
    assert [step["name"] for step in steps] == ["prepare-all", "train", "evaluate"]
    assert [step["needs"] for step in steps] == [["builder"], ["prepare-all"], ["train"]]
    assert [inputs(step)["entrypoint"] for step in steps] == ["dvc.yaml:prepare_all", "dvc.yaml:train", "dvc.yaml:evaluate"]
    assert [inputs(step).get("data") for step in steps] == ["raw/images 'raw/one two.csv'", None, "data/test.csv"]
    assert [inputs(step).get("model") for step in steps] == ["none", None, "none"]
    assert [[item["name"] for item in step["extensions"]] for step in steps] == [
        ["mlflow-tracking", "model-store", "data-remote"],
        ["mlflow-tracking", "model-store"],
        ["mlflow-tracking", "model-store", "data-remote"],
    ]
    assert steps[0]["extensions"][2]["service_resource"] == "gcs"
    assert inputs(steps[0])["code"] == {"name": "{{ inputs.code }}", "path": "/project", "folder": "ml"}
    assert [output["name"] for output in made["outputs"]] == ["model"]


def test_a_stage_that_reads_the_whole_folder_comes_last_and_pulls_everything() -> None:
    text = "stages: {report: {cmd: ls, wdir: src, deps: [..]}, make: {cmd: touch made, outs: [made]}}"
    assert [stage.name for stage in dvc_pipeline.stages(text)] == ["make", "report"]
    steps = dvc_pipeline.workflow("w", text, dvc_pipeline.Surroundings(["a", "b/c", "made"]))["steps"]
    assert [inputs(step).get("data") for step in steps] == ["a b/c", None, "a b/c"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "stages: is missing"),
        ("stages: {}", "stages: is missing"),
        ("stages: {a: 1}", "stages.a: is no mapping"),
        ("stages: {a: {deps: [x]}}", "stages.a: has no cmd"),
        ("stages: {a: {cmd: x, deps: y}}", "stages.a.deps: is no list"),
        ("stages: {a: {cmd: x, outs: [[y]]}}", "neither a path"),
        ("stages: {a: {cmd: x, deps: [p], outs: [q]}, b: {cmd: x, deps: [q], outs: [p]}}", "form a cycle"),
        ("stages: {" + ", ".join(f"s{number}: {{cmd: x}}" for number in range(101)) + "}", "at most 100"),
    ],
)
def test_a_faulty_pipeline_is_refused_with_the_place(text: str, reason: str) -> None:
    with pytest.raises(errors.InvalidError, match=reason):
        dvc_pipeline.workflow("w", text, dvc_pipeline.Surroundings())


def test_an_unknown_stage_of_the_model_is_refused_with_the_stages() -> None:
    with pytest.raises(errors.InvalidError, match="no stage 'fit'; its stages are prepare_all, train, evaluate"):
        dvc_pipeline.workflow("w", PIPELINE, AROUND, model="fit")


_PATHS = st.sampled_from(["a", "a/b", "b", "b/c", "c"])
_STAGE = st.fixed_dictionaries({"cmd": st.just("x"), "deps": st.lists(_PATHS, max_size=3), "outs": st.lists(_PATHS, max_size=2)})


@given(st.dictionaries(st.sampled_from(["a", "a_b", "a-b", "builder", "Ä", "x.y"]), _STAGE, min_size=1), st.lists(_PATHS, unique=True))
def test_every_accepted_pipeline_is_a_valid_workflow(stages: dict[str, Any], tracked: list[str]) -> None:
    text = yaml.safe_dump({"stages": stages})
    try:
        made = dvc_pipeline.workflow("w", text, dvc_pipeline.Surroundings(tracked, "s3://b"))
    except errors.InvalidError as error:
        assert "cycle" in error.message
        return
    loading.check(document.Parsed(made))
    order = [inputs(step)["entrypoint"].partition(":")[2] for step in made["steps"][1:]]
    assert sorted(order) == sorted(stages)
    outputs = {path for stage in stages.values() for path in stage["outs"]}
    for step in made["steps"][1:]:
        assert not set(inputs(step).get("data", "").split()) & outputs


def test_the_command_prints_the_workflow_of_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "churn"
    shutil.copytree(Path(__file__).parents[1] / "projects/codesets/dvc", folder)
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = s3://team/dvc\n")
    assert main.run(["workflow", "import", str(folder / "dvc.yaml"), "--model", "train"], {"HOME": str(tmp_path)}) == 0
    made = loading.load(capsys.readouterr().out)
    assert (made.name, [step.name for step in made.steps]) == ("churn", ["builder", "prepare", "train"])
    for wrong, said in (("nowhere/dvc.yaml", "cannot be read"), ("Makefile", "name a dvc.yaml")):
        assert main.run(["workflow", "import", str(folder / wrong)], {"HOME": str(tmp_path)}) != 0
        assert said in capsys.readouterr().err


def test_the_steps_bring_a_pipeline_of_the_real_dvc_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = os.environ.get("FUSEML_DVC") or shutil.which("dvc")
    if program is None:
        pytest.skip("needs DVC: FUSEML_DVC, the path of its program")
    folder = tmp_path / "checkout"
    folder.mkdir()
    environment = {**githost.ENVIRONMENT, "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}

    def run(*arguments: str) -> str:
        return commands.run([program, *arguments], environment, cwd=folder).stdout

    stages = "stages:\n  last: {cmd: cat mid rows > end; echo last >> log, deps: [mid, rows], outs: [end]}\n"
    (folder / "dvc.yaml").write_text(stages + "  first: {cmd: sort rows > mid; echo first >> log, deps: [rows], outs: [mid]}\n")
    for name in ("rows", "unused"):
        (folder / name).write_text("2\n1\n")
    run("init", "--no-scm", "--quiet")
    run("remote", "add", "--quiet", "--default", "store", str(tmp_path / "remote"))
    (folder / "unused").write_text("other\n")
    run("add", "--quiet", "rows", "unused")
    run("push", "--quiet")
    for path in (folder / "rows", folder / "unused", folder / ".dvc" / "cache"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main.run(["workflow", "import", str(folder / "dvc.yaml")], {"HOME": str(tmp_path)}) == 0
    for step in yaml.safe_load(capsys.readouterr().out)["steps"][1:]:
        given = inputs(step)
        run("pull", "--quiet", *given["data"].split())
        run("repro", "--quiet", given["entrypoint"])
    assert (folder / "end").read_text() == "1\n2\n2\n1\n"
    assert (folder / "log").read_text() == "first\nlast\n"
    assert not (folder / "unused").exists()
