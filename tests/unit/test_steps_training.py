"""The program of a training: which one is chosen among MLproject, scripts, notebooks, pipelines and commands, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuseml.steps import notebook, pipeline, sdk, training

DVC = "stages: {prepare: {cmd: python prepare.py}, train: {cmd: [echo 1, python train.py], deps: [train.py]}}"
NOTEBOOK = json.dumps(
    {"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["alpha = 0.1\n", "depth: int = 3\n"]}]}
)
MLPROJECT = "entry_points: {main: {command: python main.py}, load: {command: python load.py}}"


def codeset(folder: Path, *names: str, **texts: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text({"dvc.yaml": DVC, "MLproject": MLPROJECT}.get(name, NOTEBOOK if name.endswith(".ipynb") else ""))
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("names", "named", "kind", "command"),
    [
        (["MLproject", "train.py"], "", "MLproject", "python main.py"),
        (["MLproject"], "load", "MLproject", "python load.py"),
        (["MLproject", "jobs/fit.py"], "jobs/fit.py", "script", "python jobs/fit.py"),
        (["train.py", "prepare.py"], "", "script", "python train.py"),
        (
            ["a b.ipynb"],
            "",
            "notebook",
            "python -m papermill --no-progress-bar --log-output --kernel python3 'a b.ipynb' \"$FUSEML_EXECUTED_NOTEBOOK\"",
        ),
        (
            ["train.py", "n/a.ipynb"],
            "n/a.ipynb",
            "notebook",
            'python -m papermill --no-progress-bar --log-output --kernel python3 --cwd n n/a.ipynb "$FUSEML_EXECUTED_NOTEBOOK"',
        ),
        (["dvc.yaml", "train.py"], "", "pipeline", "python -m dvc repro dvc.yaml"),
        (["dvc.yaml", "other.ipynb"], "dvc.yaml:train", "pipeline", "python -m dvc repro dvc.yaml:train"),
        (["train.py", "run.sh"], "run.sh", "script", "bash run.sh"),
        (["train.py"], "python -m jobs.fit --fast {x}", "command", "python -m jobs.fit --fast {x}"),
        (["MLproject"], "python other.py", "command", "python other.py"),
        ([], "env", "command", "env"),
    ],
)
def test_one_program_is_chosen(names: list[str], named: str, kind: str, command: str, tmp_path: Path) -> None:
    chosen = training.choose(codeset(tmp_path, *names), named)
    assert (chosen.kind, chosen.entry_point.command_line({})) == (kind, command)
    assert chosen.reason


def test_the_only_entry_point_of_a_project_needs_no_name(tmp_path: Path) -> None:
    chosen = training.choose(codeset(tmp_path, MLproject="entry_points: {fit: {command: a}}"))
    assert chosen.entry_point.name == "fit"


@pytest.mark.parametrize(
    ("names", "named", "cause"),
    [
        (["train.py", "a.ipynb"], "", "several programs: a.ipynb, train.py: name one in the step input 'entrypoint'"),
        (["a.ipynb", "dvc.yaml", "train.py"], "", "several programs: a.ipynb, dvc.yaml: name one"),
        (["fit.py", "data.csv"], "", "name its script or command in the step input 'entrypoint'; its scripts: fit.py"),
        ([], "", "the codeset has no MLproject, train.py, dvc.yaml or notebook"),
        (["train.py"], "trian.py", "no file 'trian.py', which the step input 'entrypoint' names; did you mean 'train.py'?"),
        (
            ["MLproject"],
            "laod",
            "MLproject: entry_points: no 'laod' (declared: main, load), and it is no script, notebook or command with arguments; did",
        ),
        ([], "no-such-program", "there is no such file or program"),
        (["train.py"], "../x.py", "the codeset has no file '../x.py'"),
    ],
)
def test_several_programs_or_none_are_refused_with_the_list(names: list[str], named: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError) as raised:
        training.choose(codeset(tmp_path, *names), named)
    assert cause in str(raised.value)


def test_a_project_with_several_entry_points_needs_main(tmp_path: Path) -> None:
    with pytest.raises(
        sdk.StepError, match=r"MLproject: entry_points: no 'main' \(declared: a, b\): name one in the step input 'entrypoint'"
    ):
        training.choose(codeset(tmp_path, MLproject="entry_points: {a: {command: x}, b: {command: y}}"))


def test_parameters_follow_a_command_and_are_flags_of_a_notebook(tmp_path: Path) -> None:
    codeset(tmp_path, "train.py", "a.ipynb", "dvc.yaml")
    commands = [
        training.choose(tmp_path, name).entry_point.command_line({"alpha": "0.5", "b": "x y"})
        for name in ("train.py", "a.ipynb", "dvc.yaml")
    ]
    assert commands[0] == "python train.py --alpha 0.5 --b 'x y'"
    assert commands[1].endswith("\"$FUSEML_EXECUTED_NOTEBOOK\" -p alpha 0.5 -p b 'x y'")
    assert commands[2] == "python -m dvc repro dvc.yaml"


def test_a_program_states_the_packages_that_run_it(tmp_path: Path) -> None:
    codeset(tmp_path, "train.py", "a.ipynb", "dvc.yaml")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = s3://bucket/data\n")
    needs = {name: training.choose(tmp_path, name).requirements(tmp_path) for name in ("train.py", "a.ipynb", "dvc.yaml")}
    assert needs == {"train.py": [], "a.ipynb": ["papermill", "ipykernel"], "dvc.yaml": ["dvc[s3]"]}


def test_a_parameter_that_a_notebook_does_not_use_is_noted() -> None:
    assert notebook.notes(NOTEBOOK, {"alpha": "1", "depth": "2"}) == []
    assert notebook.notes(NOTEBOOK, {"alhpa": "1"}) == [
        "the notebook has no parameter 'alhpa' (its own: alpha, depth); did you mean 'alpha'?"
    ]
    [note] = notebook.notes('{"cells": []}', {"alpha": "1"})
    assert note.startswith("the notebook has no cell with the tag 'parameters'")
    with pytest.raises(sdk.StepError, match="it must be JSON with cells"):
        notebook.notes("[]", {})


def test_parameters_of_a_pipeline_are_values_of_its_file(tmp_path: Path) -> None:
    import yaml

    codeset(tmp_path, params__yaml="train: {alpha: 0.1, kind: a}\nseed: 1\nfast: false\n")
    pipeline.set_parameters(tmp_path, {"train.alpha": "1e-3", "train.kind": "b", "seed": "7", "fast": "true"})
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == {"train": {"alpha": 0.001, "kind": "b"}, "seed": 7, "fast": True}
    with pytest.raises(sdk.StepError, match=r"params.yaml has no 'train.alhpa' .*did you mean 'train.alpha'"):
        pipeline.set_parameters(tmp_path, {"train.alhpa": "1"})
