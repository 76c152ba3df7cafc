"""The trainer step: through the local engine, and as a process that is stopped and killed, at the API of Kubernetes and at Determined."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.domain import plans
from fuseml.steps import sdk
from fuseml.workloads import starting, trainer
from fuseml.workloads.port import LONGEST_NAME, Job
from tests import mlflow_servers, waiting, workload_tools
from tests.component import steps
from tests.contract import engines, kubernetes_training
from tests.waiting import PATIENCE

MODULE = "fuseml.workloads.trainer"
COMMAND = 'echo "trains $FUSEML_EPOCHS epochs of $FUSEML_ENV_RUN"; printf models:/a/1 > "$FUSEML_ENV_RESULTS/model"'
TOKENS = {"KUBERNETES_TOKEN", "DET_PASS"}


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[workload_tools.Tool]:
    with workload_tools.kubernetes(tmp_path_factory.mktemp("kubernetes"), "kubernetes-job") as tool:
        yield tool


@pytest.fixture(params=["kubernetes-job", "determined", "ray"])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[workload_tools.Tool]:
    with workload_tools.SERVERS[request.param](tmp_path) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return steps.codeset(tmp_path / "wine")


def variables(tool: workload_tools.Tool, step: str, command: str = COMMAND, **inputs: str) -> dict[str, str]:
    given = {"command": command, **({"image": tool.image} if tool.image else {}), **inputs}
    return {**tool.environment, "FUSEML_ENV_STEP": step, **{sdk.variable(name): value for name, value in given.items()}}


def jobs(tool: workload_tools.Tool, step: str) -> list[str]:
    """The names of the jobs of a step that the tool has ever got."""
    cluster = tool.server
    assert isinstance(cluster, kubernetes_training.Cluster)
    return [item["metadata"]["name"] for item in cluster.created if item["kind"] == "Job" and f"-{step}-" in item["metadata"]["name"]]


def begin(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        steps.command(MODULE),
        cwd=folder,
        env=steps.environment(folder, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Through the engine


def planned(tool: workload_tools.Tool, name: str, command: str = COMMAND, **inputs: str) -> plans.StepPlan:
    env: dict[str, plans.Value | str] = {key: value for key, value in variables(tool, name, command, **inputs).items() if key not in TOKENS}
    token: dict[str, plans.Value] = {key: (engines.secret(key),) for key in tool.variables if key in TOKENS}
    run = {"FUSEML_ENV_RUN": f"{name}-1", "FUSEML_ENV_PROJECT": "demo", "FUSEML_ENV_WORKFLOW_NAME": name}
    made = engines.shell(name, "", image="ghcr.io/fuseml/trainer:v1", outputs=["model", "job"], env={**env, **run, **token})
    return made.model_copy(update={"script": ()})


def unsealed(tool: workload_tools.Tool) -> dict[str, str]:
    return {engines.secret(key).ref: value for key, value in tool.variables.items() if key in TOKENS}


def test_a_step_trains_by_a_job_and_passes_its_outputs_on(tool: workload_tools.Tool, tmp_path: Path) -> None:
    with engines.local_engine(tmp_path) as engine:
        training = planned(tool, "train", parameters="epochs=3\n")
        reader = engines.shell("reader", "echo got $MODEL", needs=("train",), env={"MODEL": engines.out("train", "model")})
        plan = engines.make_plan(training, reader, outputs={"model": engines.out("train", "model")})
        result = engine.run(plan, unsealed(tool))
        log = engine.log(plan, "train")
        assert result.run.state == "succeeded", result.run.cause
        assert result.run.outputs == {"model": "models:/a/1"}
        assert "trains 3 epochs of train-1\n" in log
        assert starting.MARK not in log and not any(value in log for key, value in tool.variables.items() if key in TOKENS)
        assert engine.log(plan, "reader") == "got models:/a/1\n"


def test_a_failed_job_fails_the_step_with_the_cause_in_its_log(tool: workload_tools.Tool, tmp_path: Path) -> None:
    code = "def load():\n    raise KeyError('price')\nload()"
    with engines.local_engine(tmp_path) as engine:
        plan = engines.make_plan(planned(tool, "broken", f'{sys.executable} -c "{code}"'))
        result = engine.run(plan, unsealed(tool))
        assert result.run.state == "failed"
        assert "KeyError: 'price'" in str(result.run.cause)
        assert "the training command failed as a job of" in engine.log(plan, "broken")


def test_a_cancelled_run_cancels_its_job(tool: workload_tools.Tool, tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, grace=PATIENCE) as engine:
        stopped = tmp_path / "stopped"
        plan = engines.make_plan(planned(tool, "long", f"echo begins; trap 'touch {stopped}; exit 3' TERM; while true; do sleep 0.1; done"))
        engine.engine.submit(plan, unsealed(tool))
        waiting.wait_until(lambda: "begins" in engine.log(plan, "long"), "the job")
        engine.engine.cancel(plan.id, "enough")
        assert engine.inbox.finished(plan.id).run.state == "cancelled"
        waiting.wait_until(stopped.exists, "the end of the program")


# As a process


def test_a_step_that_is_killed_at_any_request_submits_once_and_loses_nothing(kubernetes: workload_tools.Tool, folder: Path) -> None:
    cluster = kubernetes.server
    survived = False
    for number in range(1, 40):
        step = f"killed{number}"
        environment = variables(kubernetes, step, "echo begins; sleep 0.3; printf '%s' done > \"$FUSEML_ENV_RESULTS/model\"; echo ends")
        environment["MLFLOW_S3_ENDPOINT_URL"] = "http://s3.example"
        with begin(folder, environment) as process:
            left = [number]

            def kill(process: subprocess.Popen[str] = process, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == 0:
                    process.kill()
                    process.wait()

            cluster.answering = kill
            process.communicate(timeout=PATIENCE)
        cluster.answering = lambda: None
        survived = process.returncode == 0
        ended = steps.run(MODULE, folder, **environment)
        assert (ended.code, ended.err) == (0, "")
        assert ended.outputs["model"] == "done"
        assert "begins\n" in ended.out and "ends\n" in ended.out
        assert len(jobs(kubernetes, step)) == 1
        if survived:
            break
    assert survived and number > 5


def test_a_stopped_step_cancels_its_job_and_a_retry_begins_another(tmp_path: Path, folder: Path) -> None:
    with workload_tools.determined(tmp_path) as tool:
        gate = tmp_path / "gate"
        environment = variables(tool, "terminated", f"echo begins; until [ -e {gate} ]; do sleep 0.1; done")
        with begin(folder, environment) as step:
            assert step.stdout is not None
            waiting.wait_until(lambda: step.stdout.readline() == "begins\n", "the job")  # type: ignore[union-attr]
            step.send_signal(signal.SIGTERM)
            _, err = step.communicate(timeout=PATIENCE)
        assert step.returncode == 1
        assert "the step was stopped, and its job" in err and "is cancelled" in err
        gate.touch()
        retried = steps.run(MODULE, folder, **environment)
        assert retried.code == 0 and "of a former attempt has been cancelled" in retried.out
        assert [item.config["name"].rpartition("-")[2] for item in tool.server.experiments] == ["1", "2"]


def test_a_step_that_starts_again_and_fails_cancels_the_job_of_its_first_start(kubernetes: workload_tools.Tool, folder: Path) -> None:
    environment = variables(kubernetes, "left", "echo begins; sleep 100")
    with begin(folder, environment) as step:
        assert step.stdout is not None
        waiting.wait_until(lambda: step.stdout.readline() == "begins\n", "the job")  # type: ignore[union-attr]
        step.kill()
    [name] = jobs(kubernetes, "left")
    ended = steps.run(MODULE, folder, **environment, FUSEML_FORWARD="ABSENT")
    assert ended.code == 1 and f"the job {name} is cancelled" in ended.out, ended.out + ended.err
    assert kubernetes.connect().observe(name).state in ("cancelled", "absent")


def test_a_step_waits_for_a_tool_that_is_away(kubernetes: workload_tools.Tool, folder: Path) -> None:
    kubernetes.server.refuse = 6
    ended = steps.run(MODULE, folder, **variables(kubernetes, "waiting"))
    assert (ended.code, ended.err) == (0, "")
    assert "waiting for the tool" in ended.out and len(jobs(kubernetes, "waiting")) == 1


def test_a_job_that_is_deleted_in_the_tool_fails_the_step(kubernetes: workload_tools.Tool, folder: Path) -> None:
    with begin(folder, variables(kubernetes, "deleted", "echo begins; sleep 100")) as step:
        assert step.stdout is not None
        waiting.wait_until(lambda: step.stdout.readline() == "begins\n", "the job")  # type: ignore[union-attr]
        kubernetes.connect().cancel(jobs(kubernetes, "deleted")[0])
        _, err = step.communicate(timeout=PATIENCE)
    assert step.returncode == 1 and "is not there any more: it was deleted in the tool" in err


def test_several_nodes_are_one_step_with_the_outputs_of_the_first(kubernetes: workload_tools.Tool, folder: Path) -> None:
    command = 'echo "node $JOB_COMPLETION_INDEX"; printf "$JOB_COMPLETION_INDEX" > "$FUSEML_ENV_RESULTS/node"'
    ended = steps.run(MODULE, folder, **variables(kubernetes, "nodes", command, nodes="3", cpu="500m", gpu="1"))
    assert ended.code == 0 and ended.outputs["node"] == "0"
    assert {line for line in ended.out.splitlines() if "node " in line} == {"node 0", "[1] node 1", "[2] node 2"}
    [asked] = [item for item in kubernetes.server.created if (item["kind"], item["metadata"]["name"]) == ("Job", ended.outputs["job"])]
    container = asked["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "500m", "nvidia.com/gpu": "1"}
    assert asked["metadata"]["labels"]["fuseml.org/run"] == "mlflow-e2e-1"


def test_variables_of_services_reach_the_job_by_a_secret_that_ends_with_it(kubernetes: workload_tools.Tool, folder: Path) -> None:
    environment = {
        **variables(kubernetes, "secret", 'echo "${#AWS_SECRET_ACCESS_KEY} ${#OTHER} ${KUBERNETES_TOKEN:-none}"', forward="OTHER"),
        "AWS_SECRET_ACCESS_KEY": "bucket-canary-77",
        "OTHER": "other-canary-1",
    }
    ended = steps.run(MODULE, folder, **environment)
    assert "16 14 none\n" in ended.out
    objects = [item for item in kubernetes.server.created if item["metadata"]["name"] == ended.outputs["job"]]
    assert [item["kind"] for item in objects] == ["Job", "Secret"]
    assert "canary" not in json.dumps(objects[0])
    assert objects[1]["metadata"]["ownerReferences"][0]["uid"] == objects[0]["metadata"]["uid"]


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"FUSEML_TRAINING": ""}, "FUSEML_TRAINING is not set: give the workflow step an extension with the service category training"),
        ({"FUSEML_TRAINING": "slurm"}, "knows no training service with the resource 'slurm'"),
        ({"FUSEML_TRAINING": "fuseml-workload"}, "are of the step ghcr.io/fuseml/workload:v1"),
        ({"FUSEML_TRAINING_URL": ""}, "FUSEML_TRAINING_URL is not set"),
        ({"KUBERNETES_TOKEN": "wrong"}, "401: Unauthorized"),
        ({"KUBERNETES_CA": "no certificate"}, "KUBERNETES_CA of the record holds no certificates"),
        ({"FUSEML_COMMAND": ""}, "the input 'command' is missing"),
        ({"FUSEML_IMAGE": ""}, "needs the input 'image'"),
        ({"FUSEML_IMAGE": "not a name"}, "cannot start: pod "),
        ({"FUSEML_IMAGE": "missing:1", "FUSEML_PATIENCE": "1"}, "ImagePullBackOff"),
        ({"FUSEML_NODES": "0"}, "the input 'nodes' must be a number from 1"),
        ({"FUSEML_OPTIONS": "[1]"}, "the input 'options' must be a JSON object"),
        ({"FUSEML_OPTIONS": '{"hostNetworks": true}'}, "hostNetworks: unknown field"),
        ({"FUSEML_FORWARD": "ABSENT"}, "the input 'forward' names 'ABSENT'"),
        ({"FUSEML_PARAMETERS": "a=1\nb"}, "line 2 of the input 'parameters' is not NAME=VALUE"),
    ],
)
def test_a_wrong_input_is_named(kubernetes: workload_tools.Tool, folder: Path, changed: dict[str, str], cause: str) -> None:
    ended = steps.run(MODULE, folder, **{**variables(kubernetes, "wrong"), **changed})
    assert ended.code == 1 and cause in ended.err, ended.err


def test_an_output_that_is_no_text_fails_the_step(kubernetes: workload_tools.Tool, folder: Path) -> None:
    ended = steps.run(MODULE, folder, **variables(kubernetes, "binary", "printf '\\377' > \"$FUSEML_ENV_RESULTS/model\""))
    assert ended.code == 1 and "the output 'model' of the job is not UTF-8 text" in ended.err


def test_the_name_of_a_job_is_that_of_the_run_the_step_and_the_inputs() -> None:
    context = sdk.Context("a-very-long-name-of-a-workflow-that-goes-on-1", "Fit_it", "w", "demo", "iris", "abc")
    first = trainer._prefix(context, Job("", "python train.py", variables={"a": "1"}))
    assert first == trainer._prefix(context, Job("", "python train.py", variables={"a": "1"}))
    assert len(f"{first}-100") <= LONGEST_NAME
    others = [
        trainer._prefix(context, Job("", "python train.py")),
        trainer._prefix(context, Job("", "python other.py", variables={"a": "1"})),
    ]
    assert len({first, *others}) == 3


# With MLflow

LOGS = """
import json, os, urllib.request
def call(path, body):
    address = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()
run = os.environ["MLFLOW_RUN_ID"]
call("runs/log-batch", {"run_id": run, "metrics": [{"key": "r2", "value": 0.5, "timestamp": 1, "step": 0}]})
"""


def test_a_training_is_one_run_of_mlflow_however_often_the_step_starts(kubernetes: workload_tools.Tool, tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "wine", train__py=LOGS)
    with mlflow_servers.server(tmp_path) as url:
        environment = variables(kubernetes, "logged", f"{sys.executable} {folder}/train.py", parameters="alpha=1", model="none")
        environment["MLFLOW_TRACKING_URI"] = url
        ended = [steps.run(MODULE, folder, **environment) for _ in range(2)]
        assert [item.code for item in ended] == [0, 0], ended[0].err
        assert ended[0].outputs == ended[1].outputs
        assert json.loads(ended[0].outputs["metrics"]) == {"r2": 0.5}
        run = steps.call(f"{url}/api/2.0/mlflow/runs/get", run_id=ended[0].outputs["mlflow-run"])["run"]
        assert run["info"]["status"] == "FINISHED"
        assert {item["key"]: item["value"] for item in run["data"]["params"]} == {"alpha": "1"}
        recorded = {item["key"]: item["value"] for item in run["data"]["tags"]}
        assert (recorded["fuseml.run"], recorded["fuseml.tool"]) == ("mlflow-e2e-1", "kubernetes-job")
        failing = steps.run(MODULE, folder, **{**environment, "FUSEML_ENV_STEP": "fails", "FUSEML_COMMAND": "exit 3"})
        assert failing.code == 1 and "ended with exit code 3" in failing.err
        found = steps.call(
            f"{url}/api/2.0/mlflow/runs/search",
            {"experiment_ids": [run["info"]["experiment_id"]], "filter": "attributes.status = 'FAILED'"},
        )
        assert len(found["runs"]) == 1
