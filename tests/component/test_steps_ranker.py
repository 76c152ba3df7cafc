"""The ranker step as the planner adds it: the outputs of the best combination, a table in the log, and a cause if none is the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuseml.domain import plans
from fuseml.domain.plans import combinations
from fuseml.engines.local import launch

from . import steps

VALUES = {f"trainer-{number}": {"alpha": alpha, "kind": "a\nb"} for number, alpha in enumerate(("0.1", "1", "10"), 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return steps.codeset(tmp_path / "wine")


def ranked(folder: Path, goal: str, *metrics: str) -> steps.CompletedStep:
    """The ranker after combinations with these texts as their output `metrics`."""
    best = plans.Best.model_validate({"metric": "rmse", "goal": goal})
    planned = combinations.ranker("trainer", best, VALUES, ["model", "metrics"], None)
    outputs = {
        name: {"model": f"models:/m/{number}", "metrics": text} for number, (name, text) in enumerate(zip(VALUES, metrics, strict=True))
    }
    return steps.run("ranker", folder, **launch.evaluate(planned, outputs, {}).variables)


@pytest.mark.parametrize(("goal", "best"), [("min", 2), ("max", 1)])
def test_the_outputs_are_those_of_the_best_combination(folder: Path, goal: str, best: int) -> None:
    texts = [json.dumps({"rmse": rmse, "r2": 0.5}) for rmse in (60.25, 62.5, 54)]
    ended = ranked(folder, goal, *texts)
    assert (ended.code, ended.err) == (0, "")
    name = list(VALUES)[best]
    assert ended.outputs == {"model": f"models:/m/{best}", "metrics": texts[best], "best": name}
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["combination", "alpha", "kind", "rmse"]
    assert rows[1][:4] == ["trainer-1", "0.1", "a", "b"]
    assert [row[-1] for row in rows[1:4]] == (["60.25", "62.5", "(best)"] if goal == "min" else ["60.25", "(best)", "54"])
    word = "54, is the least" if goal == "min" else "62.5, is the greatest"
    assert ended.out.splitlines()[4] == f"{name} is the best: its rmse, {word}"


def test_a_combination_without_the_metric_is_never_the_best(folder: Path) -> None:
    ended = ranked(folder, "min", '{"rmse": NaN}', '{"r2": 0.5}', '{"rmse": 99}')
    assert (ended.code, ended.outputs["best"]) == (0, "trainer-3")


@pytest.mark.parametrize(
    ("texts", "known"),
    [
        (('{"r2": 1}', '{"mae": 1}', '{"rmse": NaN}'), "they have mae, r2"),
        (("", "[]", "x"), "their outputs 'metrics' hold no number"),
    ],
)
def test_without_any_number_the_step_fails_and_shows_the_table(folder: Path, texts: tuple[str, str, str], known: str) -> None:
    ended = ranked(folder, "max", *texts)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err == f"no combination has a number as its metric 'rmse': {known}\n"
    assert [line.split()[-1] for line in ended.out.splitlines()] == ["rmse", "-", "-", "-"]
