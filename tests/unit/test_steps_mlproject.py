"""MLproject files: their content, the command line of an entry point, and errors that name the key."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import mlproject, sdk

FILE = """
name: wine
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      data: path
      rounds: {default: 10}
    command: "python train.py --alpha {alpha} {data} {rounds}"
  test:
    command: pytest
"""


def entry_point(command: str, parameters: str = "{}") -> mlproject.EntryPoint:
    return mlproject.parse(f"entry_points: {{main: {{command: {command!r}, parameters: {parameters}}}}}").entry_points["main"]


def test_a_project_has_an_environment_and_entry_points() -> None:
    project = mlproject.parse(FILE)
    assert (project.name, project.python_env, project.conda_env) == ("wine", "python_env.yaml", None)
    assert set(project.entry_points) == {"main", "test"}
    assert project.entry_points["main"].parameters["data"] == mlproject.Parameter("data", "path")


def test_given_values_override_defaults() -> None:
    main = mlproject.parse(FILE).entry_points["main"]
    assert main.values({"data": "a.csv", "alpha": "0.1"}) == {"alpha": "0.1", "data": "a.csv", "rounds": "10"}


def test_a_script_is_an_entry_point_too() -> None:
    assert mlproject.script("my {x}.py").command_line({}) == "python 'my {x}.py'"
    assert mlproject.script("go.sh").command_line({}) == "bash go.sh"


def test_undeclared_parameters_follow_the_command_as_in_mlflow() -> None:
    point = entry_point("train {alpha}", "{alpha: float}")
    values = point.values({"l1 ratio": "a b", "alpha": "1", "depth": "3"})
    assert list(values.items()) == [("alpha", "1"), ("l1 ratio", "a b"), ("depth", "3")]
    assert point.command_line(values) == "train 1 --'l1 ratio' 'a b' --depth 3"
    assert point.logged(values) == {"alpha": "1.0"}


def test_an_undeclared_parameter_may_be_a_misspelt_one() -> None:
    assert entry_point("a", "{alpha: float, depth: string}").suspects({"alhpa": "1", "depth": "2", "x": "3"}) == {"alhpa": "alpha"}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_every_value_is_one_argument_of_the_command(value: str) -> None:
    point = entry_point("train --name {name}", "{name: string}")
    assert shlex.split(point.command_line({"name": value})) == ["train", "--name", value]


def test_numbers_are_logged_as_python_prints_them() -> None:
    point = entry_point("train {alpha} {depth}", "{alpha: float, depth: {default: 3}}")
    values = point.values({"alpha": "1"})
    assert point.command_line(values) == "train 1 3"
    assert point.logged(values) == {"alpha": "1.0", "depth": "3"}


def test_the_file_name_is_found_in_any_case() -> None:
    assert mlproject.file_name(["train.py", "mlproject"]) == "mlproject"
    assert mlproject.file_name(["MLproject.bak", "train.py"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entry_points: [main]", "MLproject: entry_points: must be a mapping of keys to values, not a list"),
        ("entry_points: {main: {parameters: {}}}", "MLproject: entry_points.main.command: is missing"),
        ("entry_points: {main: {command: [a]}}", "MLproject: entry_points.main.command: must be text, not a list"),
        ("entry_points: {main: {command: a, parameters: {x: 3}}}", "MLproject: entry_points.main.parameters.x: must be a mapping"),
        ("entry_points: {main: {command: a, parameters: {x: {default: [1]}}}}", "MLproject: entry_points.main.parameters.x.default: "),
        ("python_env: a\nconda_env: b", "MLproject: python_env and conda_env: a project has one environment"),
        ("conda_env: [b]", "MLproject: conda_env: must be text"),
        ("name: x\n  entry_points: y", "MLproject: line 2, column 15: mapping values are not allowed"),
        ("- a", "MLproject: must be a mapping of keys to values, not a list"),
    ],
)
def test_a_broken_file_is_explained_by_file_and_key(text: str, message: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        mlproject.parse(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("command", "parameters", "given", "message"),
    [
        ("a", "{x: string}", {}, "entry_points.main.parameters.x: no value: run the workflow with `-i x=VALUE`"),
        ("a", "{x: float}", {"x": "one"}, "entry_points.main.parameters.x: the value 'one' is not a number"),
        ("a", "{x: uri}", {"x": "data.csv"}, "entry_points.main.parameters.x: the value 'data.csv' is not a URI"),
        ("a", "{x: uri}", {"x": "http://["}, "entry_points.main.parameters.x: the value 'http://[' is not a URI"),
        ("a {y}", "{x: string}", {"x": "1"}, "entry_points.main.command: '{y}' is not a declared parameter"),
        ("a {x", "{x: string}", {"x": "1"}, "entry_points.main.command: expected '}'"),
    ],
)
def test_invalid_parameters_are_explained(command: str, parameters: str, given: dict[str, str], message: str) -> None:
    point = entry_point(command, parameters)
    with pytest.raises(sdk.StepError) as raised:
        point.command_line(point.values(given))
    assert message in str(raised.value)
