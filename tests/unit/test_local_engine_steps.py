"""Steps of the local engine: environment, limits, causes of failures, rejected plans."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import pytest

from fuseml.domain import errors, plans
from fuseml.domain.plans import Checkout, ImageBuild, Output, OutputPart, Resources, StepPlan, text
from fuseml.engines.local import process
from tests.contract import engines
from tests.waiting import wait_until

SHELL = text("fuseml.local/shell")
CHECKOUT = Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")


def run_one(tmp_path: Path, step: StepPlan, **options: Unpack[engines.EngineOptions]) -> tuple[engines.RunProgress, str]:
    """Run a plan of one step; returns its final state and its log."""
    plan = engines.make_plan(step)
    with engines.local_engine(tmp_path, **options) as under_test:
        return under_test.run(plan), under_test.log(plan, step.name)


def test_the_environment_contains_the_declared_variables_and_few_others(tmp_path: Path) -> None:
    script = f"#!{sys.executable}\nimport json, os\nprint(json.dumps(dict(os.environ)))\n"
    step = engines.shell("look", script, env={"FUSEML_LR": "0.1", "PATH": "/opt/mine"}, resources={"limits": {"cpu": "1500m"}})
    _, log = run_one(tmp_path, step, environment={"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "http://proxy"})
    environment = json.loads(log)
    threads = {name: environment.pop(name) for name in list(environment) if name.endswith("_THREADS")}
    own = {environment.pop("HOME"), environment.pop("TMPDIR"), environment.pop("FUSEML_ENV_RESULTS")}
    for name in ("PWD", "OLDPWD", "_", "SHLVL", "LC_CTYPE"):
        environment.pop(name, None)
    assert environment == {
        "PATH": "/opt/mine",
        "LANG": "C.UTF-8",
        "HTTPS_PROXY": "http://proxy",
        "FUSEML_LR": "0.1",
    }
    assert all(path.startswith(str(tmp_path / "runs")) for path in own)
    assert threads["OMP_NUM_THREADS"] == "2"


def test_a_step_starts_in_its_first_checkout_or_in_its_own_folder(tmp_path: Path) -> None:
    other = CHECKOUT.model_copy(update={"codeset": "d", "commit": "d" * 40})
    _, log = run_one(tmp_path, engines.shell("look", "cat commit", checkouts=(CHECKOUT, other)))
    assert log == "a" * 40
    _, log = run_one(tmp_path, engines.shell("look", 'ls; touch "$HOME/a" "$TMPDIR/b"; pwd; echo "$TMPDIR"'))
    assert log.splitlines()[0] == "home"
    assert not any(Path(line).exists() for line in log.splitlines()[1:])


def test_a_step_starts_in_the_folder_of_its_first_checkout(tmp_path: Path) -> None:
    script = "import pathlib; pathlib.Path('inner').mkdir(); pathlib.Path('inner/here').touch()"
    make = engines.shell("make", f'{sys.executable} -c "{script}"', checkouts=(CHECKOUT,))
    look = engines.shell("look", "ls; cat ../commit", checkouts=(CHECKOUT.model_copy(update={"folder": "inner"}),), needs=("make",))
    missing = engines.shell("missing", "ls", checkouts=(CHECKOUT.model_copy(update={"folder": "other"}),), needs=("look",))
    plan = engines.make_plan(make, look, missing)
    with engines.local_engine(tmp_path) as under_test:
        progress = under_test.run(plan)
        assert under_test.log(plan, "look") == f"here\n{'a' * 40}"
    assert progress.steps["missing"].cause == f"codeset p/c has no folder 'other' at {'a' * 12}"


def test_command_and_arguments_are_passed_unchanged(tmp_path: Path) -> None:
    step = StepPlan(name="say", image=SHELL, command=(text("printf"), text("[%s]")), args=(text("a b"), text("$HOME 'x'"), ()))
    assert run_one(tmp_path, step)[1] == "[a b][$HOME 'x'][]"


def test_a_built_in_image_puts_its_interpreter_first_on_the_path(tmp_path: Path) -> None:
    step = engines.shell("which", 'command -v python; echo "$PYTHONUNBUFFERED"', image="fuseml.local/mlflow-trainer:host")
    assert run_one(tmp_path, step)[1] == f"{Path(sys.executable).parent / 'python'}\n1\n"


def test_a_configured_image_runs_its_command(tmp_path: Path) -> None:
    step = StepPlan(name="own", image=text("my/step:1"), args=(text("arg"),))
    assert run_one(tmp_path, step, images={"my/step": ["echo", "mine"]})[1] == "mine arg\n"


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (StepPlan(name="s", image=SHELL), "give the step a command or a script"),
        (StepPlan(name="s", image=SHELL, command=(text("no-such-program"),)), "exited with code 127: "),
        (engines.shell("s", "kill -9 $$"), "exited with code 137 (SIGKILL, out of memory?)"),
        (engines.shell("s", "kill -9 0"), "exited with code 137 (SIGKILL, out of memory?)"),
        (engines.shell("s", "seq 10; printf '\\033[31mred\\033[0m\\r\\n\\n'; exit 2"), "exited with code 2: 9\n10\nred"),
        (engines.shell("s", 'head -c 70000 /dev/zero > "$FUSEML_ENV_RESULTS/o"', outputs=["o"]), "larger than 1.5 KiB together"),
        (engines.shell("s", "printf '\\377' > \"$FUSEML_ENV_RESULTS/o\"", outputs=["o"]), "not UTF-8"),
        (engines.shell("s", 'mkdir "$FUSEML_ENV_RESULTS/o"', outputs=["o"]), "'o' is a folder, not a regular file"),
        (engines.shell("s", "true", env={"A": "a\0b"}), "null byte"),
        (engines.shell("s", "true", env={"A": (OutputPart(step="x", output="y"),)}), "without writing its output"),
    ],
)
def test_a_failed_step_reports_its_cause(tmp_path: Path, step: StepPlan, cause: str) -> None:
    result, _ = run_one(tmp_path, step)
    assert result.run.state == "failed"
    assert cause in (result.steps["s"].cause or "")
    assert len(result.steps["s"].cause or "") < 700


def test_a_step_whose_supervisor_was_killed_fails(tmp_path: Path) -> None:
    result, _ = run_one(tmp_path, engines.shell("s", "kill -9 $PPID; sleep 60"), confined=False)
    assert result.steps["s"].cause == "its supervisor was killed (out of memory?)"


def test_the_cause_of_a_retried_step_is_the_cause_of_its_last_attempt(tmp_path: Path) -> None:
    step = engines.shell("s", "test -e tried && exit 5; touch tried; echo early; exit 4", retries=1, checkouts=(CHECKOUT,))
    result, log = run_one(tmp_path, step)
    assert result.steps["s"].cause == "exited with code 5"
    assert log == "early\n=== attempt 2 ===\n"


def test_a_failed_checkout_is_retried_after_temporary_errors_only(tmp_path: Path) -> None:
    failures = iter([errors.TemporaryError("the git host is away")])

    def failing_once(checkout: Checkout, directory: Path) -> Sequence[plans.Submodule]:
        (directory / "half").touch()
        for failure in failures:
            raise failure
        return engines.write_checkout(checkout, directory / "sub")

    result, log = run_one(tmp_path, engines.shell("s", "ls", retries=1, checkouts=(CHECKOUT,)), checkout=failing_once)
    assert (result.run.state, result.steps["s"].attempts) == ("succeeded", 2)
    assert log.startswith("fuseml: codeset p/c could not be checked out at aaaaaaaaaaaa: the git host is away\n")

    def failing(checkout: Checkout, directory: Path) -> Sequence[plans.Submodule]:
        raise errors.NotFoundError("no such commit")

    result, _ = run_one(tmp_path / "other", engines.shell("s", "ls", retries=1, checkouts=(CHECKOUT,)), checkout=failing)
    assert (result.run.state, result.steps["s"].attempts) == ("failed", 1)


def test_a_codeset_is_checked_out_once_for_all_steps_of_a_run(tmp_path: Path) -> None:
    commits: list[str] = []

    def count(checkout: Checkout, directory: Path) -> Sequence[plans.Submodule]:
        commits.append(checkout.commit)
        time.sleep(0.1)
        return ()

    plan = engines.make_plan(*(engines.shell(name, "true", checkouts=(CHECKOUT,)) for name in "abcd"))
    with engines.local_engine(tmp_path, checkout=count) as under_test:
        assert under_test.run(plan).run.state == "succeeded"
    assert commits == ["a" * 40]


def test_background_processes_of_a_step_end_with_it(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("s", "sleep 60 & echo done"))
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.run(plan).run.state == "succeeded"
    # The process was killed; the kernel removes it asynchronously.
    wait_until(lambda: not process.held(tmp_path / "runs" / plan.id / "steps" / "s"), "the background processes to end")


def test_a_memory_limit_is_enforced(tmp_path: Path) -> None:
    greedy = StepPlan(
        name="s",
        image=SHELL,
        command=(text(sys.executable), text("-c"), text("len(bytearray(300 << 20))")),
        resources=Resources(limits={"memory": "200Mi"}),
    )
    if sys.platform != "linux":
        pytest.skip("only Linux counts all private memory as data")
    result, _ = run_one(tmp_path, greedy)
    assert "MemoryError" in (result.steps["s"].cause or "")
    modest = greedy.model_copy(update={"resources": Resources(limits={"memory": "1Gi"})})
    assert run_one(tmp_path / "other", modest)[0].run.state == "succeeded"


def test_max_parallel_limits_the_running_steps_over_all_runs(tmp_path: Path) -> None:
    plans = [engines.make_plan(engines.shell("a", "sleep 0.05"), engines.shell("b", "sleep 0.05")) for _ in range(3)]
    with engines.local_engine(tmp_path, max_parallel=2) as under_test:
        for plan in plans:
            under_test.engine.submit(plan, {})
        spans = [step for plan in plans for step in under_test.inbox.finished(plan.id).steps.values()]
    for span in spans:
        assert sum((other.started or "") <= (span.started or "") < (other.finished or "") for other in spans) <= 2


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (engines.shell("s", "true", needs=("t",)), "needs 't', which is not a step"),
        (engines.shell("s", "true", needs=("s",)), "the steps s -> s form a cycle"),
        (engines.shell("../s", "true"), "is not a valid name"),
        (engines.shell("s", "true", outputs=["../../o"]), "is not a valid name"),
        (engines.shell("s", "true", resources={"limits": {"memory": "lots"}}), "'lots' is not a quantity"),
        (
            StepPlan(name="s", image=SHELL, command=(text("login"), (engines.secret("PASSWORD"),))),
            "uses the secret 'PASSWORD' in its",
        ),
        (
            engines.shell("s", "true", env={"A": (engines.secret("PASSWORD"),)}),
            "was submitted without the secret mlflow/tracking/default/PASSWORD",
        ),
        (StepPlan(name="s", image=SHELL, outputs=(Output(name="o", image=ImageBuild(name=SHELL)),)), "cannot build the image output 'o'"),
    ],
)
def test_plans_that_can_never_run_are_rejected_at_submit(tmp_path: Path, step: StepPlan, message: str) -> None:
    engine = engines.make_local(tmp_path, lambda event: None)
    plan = engines.make_plan(step)
    with pytest.raises(errors.PermanentError, match=message):
        engine.submit(plan, {})
    assert engine.observe(plan.id) == []


@pytest.mark.parametrize("run_id", ["", "..", "a/b", ".hidden", "x" * 300])
def test_an_invalid_run_id_is_rejected_and_unknown(tmp_path: Path, run_id: str) -> None:
    engine = engines.make_local(tmp_path, lambda event: None)
    plan = engines.make_plan(engines.shell("s", "true")).model_copy(update={"id": run_id})
    with pytest.raises(errors.PermanentError, match="is not a valid run id"):
        engine.submit(plan, {})
    assert engine.observe(run_id) == []
    engine.cancel(run_id, "no")
    engine.forget(run_id)
