"""The workload step with the shipped agent: through the local engine, and as a process that is stopped and killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import plans
from fuseml.steps import sdk, workload
from tests import agents, waiting
from tests.component import steps
from tests.component.test_workload_agent import JOBS, SCRIPT, call
from tests.contract import engines
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    script = tmp_path_factory.mktemp("job") / "job.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, command: str) -> Iterator[agents.Running]:
    with agents.command(tmp_path_factory.mktemp("agent"), command) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return steps.codeset(tmp_path / "wine")


def variables(agent: agents.Running, step: str, **parameters: str) -> dict[str, str]:
    lines = "\n".join(f"{name}={value}" for name, value in parameters.items())
    return {"FUSEML_AGENT_URL": agent.url, "FUSEML_AGENT_TOKEN": agent.token, "FUSEML_PARAMETERS": lines, "FUSEML_ENV_STEP": step}


def all_jobs(agent: agents.Running, step: str) -> dict[str, str]:
    """Number -> state of the jobs of a step."""
    folders = (agent.folder / "jobs").glob(f"mlflow-e2e-1-{step}.*")
    return {folder.name.rpartition(".")[2]: call(agent, "GET", f"{JOBS}/{folder.name}")[1]["state"] for folder in folders}


def begin(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        steps.command("workload"),
        cwd=folder,
        env=steps.environment(folder, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Through the engine


def planned(agent: agents.Running, name: str, **parameters: str) -> plans.StepPlan:
    env = {key: value for key, value in variables(agent, name, **parameters).items() if key != "FUSEML_AGENT_TOKEN"}
    token: dict[str, plans.Value] = {"FUSEML_AGENT_TOKEN": (engines.secret("FUSEML_AGENT_TOKEN"),)}
    run = {"FUSEML_ENV_RUN": f"{name}-1", "FUSEML_ENV_PROJECT": "demo", "FUSEML_ENV_WORKFLOW_NAME": name}
    made = engines.shell(name, "", image="ghcr.io/fuseml/workload:v1", outputs=["answer", "count"], env={**env, **run, **token})
    return made.model_copy(update={"script": ()})


def test_a_step_runs_a_job_and_passes_its_outputs_on(agent: agents.Running, tmp_path: Path) -> None:
    with engines.local_engine(tmp_path) as engine:
        job = planned(agent, "train", text="größer")
        reader = engines.shell("reader", "echo got $ANSWER", needs=("train",), env={"ANSWER": engines.out("train", "answer")})
        plan = engines.make_plan(job, reader, outputs={"answer": engines.out("train", "answer")})
        result = engine.run(plan, {engines.secret("FUSEML_AGENT_TOKEN").ref: agent.token})
        log = engine.log(plan, "train")
        assert result.run.state == "succeeded", result.run.cause
        assert result.run.outputs == {"answer": "heard größer"}
        assert "begins größer\n" in log
        assert agents.TOKEN not in log
        assert engine.log(plan, "reader") == "got heard größer\n"


def test_a_failed_job_fails_the_step_with_its_cause(agent: agents.Running, tmp_path: Path) -> None:
    with engines.local_engine(tmp_path) as engine:
        plan = engines.make_plan(planned(agent, "broken", mode="fail"))
        result = engine.run(plan, {engines.secret("FUSEML_AGENT_TOKEN").ref: agent.token})
        assert (result.run.state, "nonsense" in engine.log(plan, "broken")) == ("failed", True)
        assert "has failed: the command ended with code 3" in str(result.run.cause)


def test_a_cancelled_run_cancels_its_job(agent: agents.Running, tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, grace=PATIENCE) as engine:
        plan = engines.make_plan(planned(agent, "stopped", mode="wait", gate=str(tmp_path / "never")))
        engine.engine.submit(plan, {engines.secret("FUSEML_AGENT_TOKEN").ref: agent.token})
        waiting.wait_until(lambda: "begins" in engine.log(plan, "stopped"), "the job")
        engine.engine.cancel(plan.id, "enough")
        assert engine.inbox.finished(plan.id).run.state == "cancelled"
    [found] = (agent.folder / "jobs").glob("stopped-1-stopped.*")
    assert call(agent, "GET", f"{JOBS}/{found.name}")[1]["state"] == "cancelled"


# As a process


def test_a_killed_step_continues_its_job(agent: agents.Running, folder: Path, tmp_path: Path) -> None:
    environment = variables(agent, "killed", mode="wait", gate=str(tmp_path / "gate"), text="a")
    with begin(folder, environment) as step:
        waiting.wait_until(lambda: all_jobs(agent, "killed") == {"1": "running"}, "the job")
        step.kill()
    (tmp_path / "gate").touch()
    ended = steps.run("workload", folder, **environment)
    assert (ended.code, ended.err) == (0, "")
    assert (ended.outputs["answer"], ended.outputs["count"]) == ("heard a", "1")
    assert "begins a\n" in ended.out
    again = steps.run("workload", folder, **environment)
    assert again.outputs == ended.outputs
    assert all_jobs(agent, "killed") == {"1": "succeeded"}


def test_a_stopped_step_cancels_its_job_and_a_retry_begins_another(agent: agents.Running, folder: Path, tmp_path: Path) -> None:
    environment = variables(agent, "terminated", mode="wait", gate=str(tmp_path / "gate"))
    with begin(folder, environment) as step:
        waiting.wait_until(lambda: all_jobs(agent, "terminated") == {"1": "running"}, "the job")
        step.send_signal(signal.SIGTERM)
        _, err = step.communicate(timeout=PATIENCE)
    assert step.returncode == 1
    assert "the step was stopped, and its job" in err and "is cancelled" in err
    waiting.wait_until(lambda: all_jobs(agent, "terminated") == {"1": "cancelled"}, "the end of the job")
    (tmp_path / "gate").touch()
    retried = steps.run("workload", folder, **environment)
    assert retried.code == 0 and "of a former attempt has been cancelled" in retried.out
    assert all_jobs(agent, "terminated") == {"1": "cancelled", "2": "succeeded"}


def test_a_step_waits_for_an_agent_that_is_away(folder: Path, tmp_path: Path, command: str) -> None:
    with agents.command(tmp_path / "agent", command) as agent:
        environment = variables(agent, "waiting", mode="wait", gate=str(tmp_path / "gate"), text="b")
        step = begin(folder, environment)
        waiting.wait_until(lambda: all_jobs(agent, "waiting") == {"1": "running"}, "the job")
    (tmp_path / "gate").touch()
    assert step.stdout is not None
    waiting.wait_until(lambda: step.stdout.readline().startswith("waiting for the agent"), "the silence")  # type: ignore[union-attr]
    with agents.command(tmp_path / "agent", command, int(agent.url.rpartition(":")[2])):
        _, err = step.communicate(timeout=PATIENCE)
    assert (step.returncode, err) == (0, "")
    assert (steps.results_of(folder) / "answer").read_text() == "heard b"


def test_a_step_whose_agent_stays_away_fails(folder: Path) -> None:
    agent = agents.Running("http://127.0.0.1:1", agents.TOKEN, folder, None)  # type: ignore[arg-type]
    ended = steps.run("workload", folder, **variables(agent, "lost"), FUSEML_PATIENCE="0")
    assert ended.code == 1 and "no answer" in ended.err and agents.TOKEN not in ended.out + ended.err


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"FUSEML_AGENT_URL": ""}, "FUSEML_AGENT_URL is not set: give the workflow step an extension"),
        ({"FUSEML_AGENT_TOKEN": ""}, "FUSEML_AGENT_TOKEN is not set"),
        ({"FUSEML_AGENT_TOKEN": "wrong-token-of-some-length"}, "401: the token is not valid"),
        ({"FUSEML_PARAMETERS": "a=1\nb"}, "line 2 of the input 'parameters' is not NAME=VALUE: 'b'"),
        ({"FUSEML_PARAMETERS": "a b=1"}, "'a b' cannot be the name of a parameter"),
        ({"FUSEML_PATIENCE": "long"}, "must be a number of seconds"),
    ],
)
def test_a_wrong_input_is_named(agent: agents.Running, folder: Path, changed: dict[str, str], cause: str) -> None:
    ended = steps.run("workload", folder, **{**variables(agent, "wrong"), **changed})
    assert ended.code == 1 and cause in ended.err


def test_the_id_of_a_job_is_that_of_the_run_the_step_and_the_parameters() -> None:
    context = sdk.Context("train-1", "train", "fit it", "demo", "iris", "abc")
    id = workload.job_id(context, {"a": "1", "b": "2"})
    assert id == workload.job_id(context, {"b": "2", "a": "1"}) and id.startswith("train-1-fit-it.")
    others: list[Any] = [
        workload.job_id(context, {"a": "1"}),
        workload.job_id(sdk.Context("train-2", *list(vars(context).values())[1:]), {}),
    ]
    assert len({id, *others}) == 3


def test_an_answer_of_another_server_is_refused(folder: Path, tmp_path: Path) -> None:
    with agents.store(tmp_path / "store") as other:
        ended = steps.run("workload", folder, **variables(other, "other"))
    assert ended.code == 1 and "nothing is served at /workload/v1/jobs" in ended.err
