"""Trainings on a real cluster: Jobs of Kubernetes and TrainJobs of Kubeflow Trainer that succeed, fail with their log kept, and are cancelled.

The account is the one of infra/kubernetes/training, which the tests apply. FUSEML_TEST_IMAGE_SHELL is an image with `sh` and `base64`,
FUSEML_TEST_IMAGE_ELSEWHERE the image of the step `trainer`.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fuseml.domain import plans
from fuseml.steps import sdk
from fuseml.workloads.port import ENDS, Job
from tests import commands, workload_tools
from tests.component import steps
from tests.contract import engines, on_cluster
from tests.images import image

from .deployment import ROOT, kubectl, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

NAMESPACE = "fuseml-training"
MODULE = "fuseml.workloads.trainer"
RUNTIME: str = re.findall(r"```yaml\n# runtime.yaml\n(.*?)```", (ROOT / "docs/tools/kubeflow-trainer.md").read_text(), re.DOTALL)[0]
"""The documented runtime, which keeps the pods of failed trainings."""
RESTARTING = RUNTIME.replace("                  restartPolicy: Never\n", "").replace("name: fuseml\n", "name: restarting\n")
"""The same, which restarts them as by default: JobSet deletes them."""
TRAINJOBS = ("kept", "restarting")


@pytest.fixture(scope="module")
def account() -> Iterator[Mapping[str, str]]:
    """The variables of a record of the cluster, with the account for trainings; without a right that its manifest does not give."""
    with on_cluster.own_namespace("training"):  # skips without a cluster
        pass
    manifests = kubectl("kustomize", str(ROOT / "infra/kubernetes/training"))
    existing = NAMESPACE in kubectl("get", "namespaces", "--output=name")
    kubectl("apply", "--server-side", "--filename=-", manifest=manifests)

    def data() -> dict[str, str]:
        found: dict[str, str] = json.loads(kubectl("get", "secret", "trainer", f"--namespace={NAMESPACE}", "--output=json")).get("data", {})
        return found

    wait_until(lambda: "token" in data(), "the token of the account")
    decoded = {key: base64.b64decode(value).decode() for key, value in data().items()}
    yield {"KUBERNETES_TOKEN": decoded["token"], "KUBERNETES_CA": decoded["ca.crt"]}
    if not existing:
        kubectl("delete", "--filename=-", "--wait=false", manifest=manifests)


@pytest.fixture(scope="module", params=["job", *TRAINJOBS])
def tool(request: pytest.FixtureRequest, account: Mapping[str, str]) -> Iterator[workload_tools.Tool]:
    url = kubectl("config", "view", "--minify", "--raw", "--output=jsonpath={.clusters[0].cluster.server}").strip()
    shell = image("SHELL", "dev.local/busybox:1")
    if request.param == "job":
        yield workload_tools.Tool("kubernetes-job", url, account, shell, keeps_cancelled=False)
        return
    if "trainjobs.trainer.kubeflow.org" not in kubectl("get", "crds", "--output=name"):
        pytest.skip("needs Kubeflow Trainer and JobSet")
    name, runtime = ("fuseml", RUNTIME) if request.param == "kept" else ("restarting", RESTARTING)
    kubectl("apply", "--server-side", "--filename=-", manifest=runtime)
    yield workload_tools.Tool("kubeflow-trainjob", url, {**account, "TRAINING_RUNTIME": f"namespaced/{name}"}, shell, keeps_cancelled=False)
    kubectl("delete", "--filename=-", manifest=runtime)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return steps.codeset(tmp_path / "wine")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """The jobs of a test go with it, and their Secrets with them."""
    yield
    for kind in ("jobs", "trainjobs.trainer.kubeflow.org"):
        if kind == "jobs" or kind in kubectl("get", "crds", "--output=name"):
            kubectl("delete", kind, f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/managed-by=fuseml", "--ignore-not-found")
    wait_until(lambda: not _names("pods") and _names("secrets") <= {"trainer"}, lambda: f"no pods and Secrets: {_names('pods')}")


def _names(kind: str) -> set[str]:
    return set(kubectl("get", kind, f"--namespace={NAMESPACE}", "--output=jsonpath={.items[*].metadata.name}").split())


def variables(tool: workload_tools.Tool, step: str, command: str, **inputs: str) -> dict[str, str]:
    given = {"command": command, "image": tool.image, **inputs}
    name = f"{step}-{sdk.variable(tool.resource).lower()}-{tool.variables.get('TRAINING_RUNTIME', '')}"
    return {**tool.environment, "FUSEML_ENV_STEP": name, **{sdk.variable(key): value for key, value in given.items()}}


def begin(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        steps.command(MODULE),
        cwd=folder,
        env=steps.environment(folder, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(step: subprocess.Popen[str], line: str) -> None:
    """Read the log of a step until it has the line."""
    assert step.stdout is not None
    found: Callable[[], str] = step.stdout.readline
    wait_until(lambda: found() == line, f"the line {line!r}")


def test_a_training_succeeds_with_its_outputs_and_its_secret(tool: workload_tools.Tool, folder: Path) -> None:
    command = 'echo "$FUSEML_EPOCHS ${#AWS_SECRET_ACCESS_KEY}"; printf \'a\\nb\' > "$FUSEML_ENV_RESULTS/model"'
    environment = {**variables(tool, "good", command, parameters="epochs=3"), "AWS_SECRET_ACCESS_KEY": "bucket-canary-77"}
    ended = steps.run(MODULE, folder, **environment)
    assert ended.code == 0, ended.err
    assert "3 16\n" in ended.out and ended.outputs["model"] == "a\nb"
    again = steps.run(MODULE, folder, **environment)
    assert again.outputs == ended.outputs and "succeeded, continued" in again.out


def test_a_failed_training_has_its_log_and_its_cause(tool: workload_tools.Tool, folder: Path) -> None:
    ended = steps.run(MODULE, folder, **variables(tool, "bad", "echo before the end; exit 7"))
    assert ended.code == 1
    assert "before the end\n" in ended.out
    assert "has failed" in ended.err
    if tool.variables.get("TRAINING_RUNTIME") != "namespaced/restarting":
        assert "ended with exit code 7" in ended.err


def test_a_cancelled_training_is_stopped(tool: workload_tools.Tool, folder: Path) -> None:
    with begin(folder, variables(tool, "long", "echo begins; while true; do sleep 1; done")) as step:
        until(step, "begins\n")
        step.send_signal(signal.SIGTERM)
        _, err = step.communicate()
    assert step.returncode == 1 and "the step was stopped, and its job" in err
    wait_until(lambda: not _names("pods"), "the pods to be gone")


def test_a_killed_step_continues_its_training(tool: workload_tools.Tool, folder: Path) -> None:
    environment = variables(tool, "killed", 'echo begins; sleep 20; printf done > "$FUSEML_ENV_RESULTS/model"; echo ends')
    with begin(folder, environment) as step:
        until(step, "begins\n")
        step.kill()
    ended = steps.run(MODULE, folder, **environment)
    assert (ended.code, ended.outputs["model"]) == (0, "done")
    assert "running, continued" in ended.out and "begins\n" in ended.out and "ends\n" in ended.out


def test_several_nodes_are_one_step(tool: workload_tools.Tool, folder: Path) -> None:
    command = 'echo "node $JOB_COMPLETION_INDEX"; printf "$JOB_COMPLETION_INDEX" > "$FUSEML_ENV_RESULTS/node"'
    ended = steps.run(MODULE, folder, **variables(tool, "nodes", command, nodes="2", cpu="50m", memory="32Mi"))
    assert ended.code == 0, ended.err
    assert {line for line in ended.out.splitlines() if "node " in line} == {"node 0", "[1] node 1"}
    assert ended.outputs["node"] == "0"


def test_an_image_that_does_not_exist_is_named(tool: workload_tools.Tool, folder: Path) -> None:
    ended = steps.run(MODULE, folder, **variables(tool, "absent", "true", image="absent.invalid/a:1", patience="10"))
    assert ended.code == 1 and re.search("ErrImagePull|ImagePullBackOff", ended.err)


def test_the_account_reads_no_secret_and_no_other_namespace(account: Mapping[str, str]) -> None:
    for right in (("get", "secrets"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec")):
        asked = ["kubectl", "auth", "can-i", *right, f"--namespace={NAMESPACE}", f"--as=system:serviceaccount:{NAMESPACE}:trainer"]
        assert commands.run(asked, code=1).stdout.strip() == "no", right


def test_a_step_of_tekton_trains_by_a_job(account: Mapping[str, str], tmp_path: Path) -> None:
    elsewhere, shell = image("ELSEWHERE"), image("SHELL", "dev.local/busybox:1")
    with on_cluster.tekton_engine(tmp_path) as engine:
        env: dict[str, plans.Value | str] = {
            "FUSEML_TRAINING": "kubernetes-job",
            "FUSEML_TRAINING_URL": "https://kubernetes.default.svc",
            "KUBERNETES_CA": account["KUBERNETES_CA"],
            "KUBERNETES_TOKEN": (engines.secret("KUBERNETES_TOKEN"),),
            "FUSEML_IMAGE": shell,
            "FUSEML_COMMAND": 'echo trains; printf models:/a/1 > "$FUSEML_ENV_RESULTS/model"',
        }
        made = engines.shell("train", "", image=elsewhere, outputs=["model"], env=env).model_copy(update={"script": ()})
        plan = engines.make_plan(made, outputs={"model": engines.out("train", "model")})
        result = engine.run(plan, {engines.secret("KUBERNETES_TOKEN").ref: account["KUBERNETES_TOKEN"]})
        assert result.run.state == "succeeded", result.run.cause
        assert result.run.outputs == {"model": "models:/a/1"}
        assert "trains\n" in engine.log(plan, "train")


def test_a_job_is_one_however_often_it_is_submitted(tool: workload_tools.Tool) -> None:
    workload = tool.connect()
    asked = Job("submitted-thrice-1", "true", image=tool.image, labels={"run": "r-1"})
    for _ in range(3):
        workload.submit(asked)
    wait_until(lambda: workload.observe(asked.name).state in ENDS, "the end of the job")
    assert workload.observe(asked.name).state == "succeeded"
