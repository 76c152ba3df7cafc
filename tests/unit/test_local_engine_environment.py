"""The environment of steps: every name and value arrives unchanged, and changes nothing but the step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.engines.local import implementations
from tests.contract import engines
from tests.contract.engines import UnderTest

SHOW = "import json, os, sys; sys.stdout.write(json.dumps(dict(os.environ)))"
# What shells, loaders and interpreters read themselves.
NAMES = {
    "OPTIND": "abc",
    "IFS": "/",
    "PS4": "$(touch /tmp/ps4)",
    "PS1": "x",
    "ENV": "/no/such/file",
    "BASH_ENV": "/no/such/file",
    "SHELLOPTS": "xtrace:noexec",
    "BASHOPTS": "extdebug",
    "CDPATH": "/",
    "POSIXLY_CORRECT": "1",
    "LD_PRELOAD": "",
    "LD_LIBRARY_PATH": "/no/such/folder",
    "PYTHONPATH": "/no/such/folder",
    "PYTHONSTARTUP": "/no/such/file",
    "PYTHONHASHSEED": "0",
    "UID": "12",
    "PPID": "1",
    "RANDOM": "4",
    "_": "x",
    "MAIL": "x",
    "spark.master": "local[*]",
    "with-dash": "1",
    "with space": "1",
    "BASH_FUNC_echo%%": "() { touch /tmp/function; }",
    "LINES": "three\nlines\n",
    "QUOTES": "'\"`$(x)${y}\\",
    "EMPTY": "",
    "NON_ASCII": "\u00e4\u2028\U0001f600",
    "LONG": "x" * 100_000,
}


@pytest.fixture(scope="module")
def under_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    with engines.local_engine(tmp_path_factory.mktemp("environment")) as engine:
        yield engine


def seen(under_test: UnderTest, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a step with these variables."""
    command = tuple(map(plans.text, (sys.executable, "-I", "-S", "-c", SHOW)))
    declared = tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in variables.items())
    plan = engines.make_plan(plans.StepPlan(name="s", image=plans.text("fuseml.local/shell"), command=command, variables=declared))
    result = under_test.run(plan)
    assert result.run.state == "succeeded", result.steps["s"].cause
    environment: dict[str, str] = json.loads(under_test.log(plan, "s"))
    return environment


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_reaches_the_step_unchanged(under_test: UnderTest, name: str) -> None:
    assert seen(under_test, {name: NAMES[name]})[name] == NAMES[name]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=8),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        max_size=5,
    )
)
def test_any_variables_reach_the_step_unchanged(under_test: UnderTest, variables: dict[str, str]) -> None:
    variables = {f"X{name}": value for name, value in variables.items()}
    assert variables.items() <= seen(under_test, variables).items()


@pytest.mark.parametrize(("name", "value"), [("A=B", ""), ("", "x"), ("A", "a\0b")])
def test_a_variable_that_no_process_can_have_fails_its_step(under_test: UnderTest, name: str, value: str) -> None:
    result = under_test.run(engines.make_plan(engines.shell("s", "true", env={name: value})))
    assert result.run.state == "failed"
    assert "environment variable" in (result.steps["s"].cause or "")


def test_a_program_is_found_on_the_path_of_the_step(under_test: UnderTest, tmp_path: Path) -> None:
    folder = under_test.root.parent / "shared" / "programs" if under_test.root else tmp_path
    folder.mkdir()
    (folder / "mine").write_text("echo no interpreter named\n")
    (folder / "mine").chmod(0o755)
    step = plans.StepPlan(
        name="s",
        image=plans.text("fuseml.local/shell"),
        command=(plans.text("mine"),),
        variables=(plans.Variable(name="PATH", value=plans.text(f"{folder}:/usr/bin:/bin")),),
    )
    plan = engines.make_plan(step)
    assert under_test.run(plan).run.state == "succeeded"
    assert under_test.log(plan, "s") == "no interpreter named\n"


# --- containers

# Writes its own variables, and the names and values that it would pass on, as docker and podman do.
RUNTIME = """#!/bin/sh
case $1 in version) exit 0;; esac
exec {python} -I -S -c '
import json, os, sys
passed, arguments = {{}}, sys.argv[1:]
for option, value in zip(arguments, arguments[1:]):
    if option == "--env":
        passed[value] = os.environ[value]
    if option == "--env-file":
        for line in open(value, newline="\\n"):
            name, _, text = line.removesuffix("\\n").partition("=")
            passed[name] = text
json.dump({{"own": dict(os.environ), "passed": passed}}, sys.stdout)
' "$@"
"""


def contained(
    folder: Path, variables: dict[str, str], secrets: dict[str, str] | None = None, **host: str
) -> tuple[str, dict[str, dict[str, str]]]:
    """The cause of a failure, or the environments of the container program and of the container."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "podman").write_text(RUNTIME.format(python=sys.executable))
    (programs / "podman").chmod(0o755)
    declared = tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in variables.items())
    key = engines.secret("KEY")
    declared += tuple(plans.Variable(name=name, value=(key,)) for name in secrets or {})
    plan = engines.make_plan(plans.StepPlan(name="s", image=plans.text("some/image:1"), variables=declared))
    with engines.local_engine(folder, environment={"PATH": f"{programs}:/usr/bin:/bin", **host}) as under_test:
        result = under_test.run(plan, {key.ref: next(iter((secrets or {}).values()), "")})
        log = under_test.log(plan, "s")
    return result.steps["s"].cause or "", json.loads(log) if result.run.state == "succeeded" else {}


def test_variables_reach_a_container_and_not_the_container_program(tmp_path: Path) -> None:
    dangerous = ("LD_PRELOAD", "PATH", "HOME", "DOCKER_HOST", "BASH_ENV", "HTTPS_PROXY", "XDG_CONFIG_HOME", "OPTIND", "LD_LIBRARY_PATH")
    variables = {**dict.fromkeys(dangerous, "mine"), "FUSEML_A": "three\nlines\n", "KEY_FILE": "'\"$"}
    cause, environments = contained(tmp_path, variables, HTTPS_PROXY="http://proxy")
    assert cause == ""
    assert variables.items() <= environments["passed"].items()
    assert environments["own"]["HTTPS_PROXY"] == "http://proxy"
    assert not any(environments["own"].get(name) == "mine" for name in dangerous)


@pytest.mark.parametrize(
    ("variables", "secrets", "cause"),
    [
        ({"LD_PRELOAD": "a\nb"}, None, "its value cannot have several lines"),
        ({}, {"LD_PRELOAD": "secret-4711"}, "so it cannot hold a secret"),
    ],
)
def test_a_variable_that_the_container_program_would_use_and_cannot_be_passed_fails(
    tmp_path: Path, variables: dict[str, str], secrets: dict[str, str] | None, cause: str
) -> None:
    assert cause in contained(tmp_path, variables, secrets)[0]


def test_the_environment_of_another_project_is_refused(tmp_path: Path) -> None:
    for name in ("p.0a1b", "q.0a1b", "q.r.0a1b", "0a1b"):
        folder = implementations.environment_folder(tmp_path, name) / "bin"
        folder.mkdir(parents=True)
        (folder / "python").touch()
    found = implementations.Implementations({}, tmp_path, {})
    for project, tag in (("p", "p.0a1b"), ("q.r", "q.r.0a1b"), ("p", "0a1b")):
        native = found.find(f"fuseml.local/mlflow-trainer:{tag}", project)
        assert isinstance(native, implementations.Native)
        assert native.programs == implementations.environment_folder(tmp_path, tag) / "bin"
    for project, tag in (("p", "q.0a1b"), ("q", "q.r.0a1b"), ("r", "q.r.0a1b")):
        with pytest.raises(errors.PermanentError, match="belongs to another project"):
            found.find(f"fuseml.local/mlflow-trainer:{tag}", project)
