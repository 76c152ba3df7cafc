"""Runs on a real cluster with the CLI: following logs, approvals, cancel, retries, resume, timeouts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import labels
from tests import commands
from tests.images import image

from .deployment import Deployment, kubectl, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WORKFLOW = """
name: NAME
inputs:
  - {name: lines, type: string, default: "2"}
  - {name: verdict, type: string, default: good}
outputs: [{name: served}]
steps:
  - name: train
    image: IMAGE
    inputs: [{name: lines, value: "{{ inputs.lines }}"}]
    script: |
      i=0
      while [ $i -lt "$FUSEML_LINES" ]; do echo "line $i"; i=$((i + 1)); sleep 1; done
      echo model-7 > "$FUSEML_ENV_RESULTS/model"
    outputs: [{name: model}]
  - name: judge
    image: IMAGE
    inputs: [{name: verdict, value: "{{ inputs.verdict }}"}, {name: model, value: "{{ steps.train.outputs.model }}"}]
    retries: 1
    script: |
      echo "$FUSEML_MODEL is $FUSEML_VERDICT"
      test "$FUSEML_VERDICT" != bad
  - name: late
    image: IMAGE
    needs: [train]
    when: [{input: "{{ inputs.verdict }}", values: [late]}]
    timeout: 5s
    script: sleep 600
  - name: serve
    image: IMAGE
    needs: [judge]
    approval: {message: serve it?}
    inputs: [{name: model, value: "{{ steps.train.outputs.model }}"}]
    script: echo "$FUSEML_MODEL by $FUSEML_ENV_RUN" > "$FUSEML_ENV_RESULTS/served"
    outputs: [{name: served}]
"""


@dataclass(frozen=True)
class DeployedWorkflow:
    deployment: Deployment
    name: str

    def fuseml(self, *arguments: str, code: int = 0) -> str:
        return self.deployment.fuseml(*arguments, code=code)

    def start(self, **inputs: str) -> str:
        """Start a run; returns its name."""
        options = [part for name, value in inputs.items() for part in ("-i", f"{name}={value}")]
        name: str = json.loads(self.fuseml("workflow", "run", self.name, *options, "-o", "json"))["name"]
        return name

    def run(self, name: str) -> dict[str, Any]:
        run: dict[str, Any] = self.deployment.read(f"/runs/{name}")
        return run

    def states(self, name: str) -> dict[str, str]:
        return {step["name"]: step["state"] for step in self.run(name)["steps"]}

    def wait_for(self, name: str, *states: str) -> dict[str, Any]:
        wait_until(lambda: self.run(name)["state"] in states, lambda: f"{name} to be {states}: {self.run(name)}")
        return self.run(name)


@pytest.fixture(scope="module")
def workflow(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedWorkflow]:
    deployed = DeployedWorkflow(deployment, f"lifecycle-{os.urandom(2).hex()}")
    file: Path = tmp_path_factory.mktemp("workflow") / "workflow.yaml"
    file.write_text(WORKFLOW.replace("NAME", deployed.name).replace("IMAGE", image("SHELL")))
    deployed.fuseml("workflow", "create", str(file))
    yield deployed
    deployed.fuseml("workflow", "delete", deployed.name, "--force")


def test_a_log_can_be_followed_while_the_step_writes_it(workflow: DeployedWorkflow) -> None:
    name = workflow.start(lines="12")
    wait_until(lambda: workflow.states(name)["train"] == "running", "the step runs")
    command = [*commands.FUSEML, "run", "logs", name, "train", "-f"]
    with subprocess.Popen(command, env=workflow.deployment.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        assert workflow.states(name)["train"] == "running", "the first line is there before the step has finished"
        lines += list(process.stdout)
    assert process.returncode == 0
    assert [line.strip() for line in lines if line.startswith("line ")] == [f"line {number}" for number in range(12)]
    workflow.wait_for(name, "waiting")


def test_a_run_waits_for_an_approval_and_continues_in_a_second_execution(workflow: DeployedWorkflow) -> None:
    name = workflow.start()
    workflow.wait_for(name, "waiting")
    assert workflow.states(name) == {"train": "succeeded", "judge": "succeeded", "late": "skipped", "serve": "waiting"}
    workflow.fuseml("run", "approve", name, "--comment", "looks good")
    run = workflow.wait_for(name, "succeeded", "failed")
    assert (run["state"], run["outputs"]) == ("succeeded", {"served": f"model-7 by {name}"})
    assert "looks good" in workflow.fuseml("run", "get", name)


def test_a_rejection_fails_the_run(workflow: DeployedWorkflow) -> None:
    name = workflow.start()
    workflow.wait_for(name, "waiting")
    workflow.fuseml("run", "reject", name, "--comment", "not today")
    run = workflow.wait_for(name, "failed", "succeeded")
    assert (run["state"], workflow.states(name)["serve"]) == ("failed", "failed")
    assert "not today" in run["cause"]


def test_a_failing_step_is_retried_and_a_resumed_run_starts_at_it(workflow: DeployedWorkflow) -> None:
    name = workflow.start(verdict="bad")
    run = workflow.wait_for(name, "failed", "succeeded")
    steps = {step["name"]: step for step in run["steps"]}
    assert (run["state"], steps["judge"]["attempts"], steps["serve"]["state"]) == ("failed", 2, "skipped")
    assert "exited with code 1" in steps["judge"]["cause"]
    assert workflow.fuseml("run", "logs", name, "judge").count("model-7 is bad") >= 1
    resumed = json.loads(workflow.fuseml("run", "resume", name, "-o", "json"))["name"]
    again = workflow.wait_for(resumed, "failed", "succeeded")
    resumed_steps = {step["name"]: step for step in again["steps"]}
    assert resumed_steps["train"]["reused_from"] == name
    assert (resumed_steps["judge"]["state"], again["state"]) == ("failed", "failed")


def test_a_step_is_stopped_at_its_timeout_and_fails_the_run(workflow: DeployedWorkflow) -> None:
    name = workflow.start(verdict="late")
    run = workflow.wait_for(name, "failed", "succeeded")
    steps = {step["name"]: step for step in run["steps"]}
    assert (run["state"], steps["late"]["state"], steps["serve"]["state"]) == ("failed", "failed", "skipped")
    assert "timed out after 5 s" in steps["late"]["cause"]


def test_a_run_is_cancelled_with_its_pods(workflow: DeployedWorkflow) -> None:
    name = workflow.start(lines="600")
    wait_until(lambda: "line 1" in workflow.fuseml("run", "logs", name, "train"), "the step writes")
    workflow.fuseml("run", "cancel", name)
    run = workflow.wait_for(name, "cancelled", "failed", "succeeded")
    assert (run["state"], workflow.states(name)["train"]) == ("cancelled", "cancelled"), run
    assert "line 0" in workflow.fuseml("run", "logs", name, "train")


@pytest.mark.parametrize("cancelled", [False, True], ids=["alone", "and cancelled"])
def test_a_run_whose_pipeline_run_is_deleted_ends_and_can_be_resumed(workflow: DeployedWorkflow, cancelled: bool) -> None:
    name = workflow.start(lines="600")
    wait_until(lambda: "line 1" in workflow.fuseml("run", "logs", name, "train"), "the step writes")
    kubectl("delete", "pipelinerun", f"--selector={labels.NAME_LABEL}={name}", "--namespace=fuseml-workloads")
    if cancelled:
        workflow.fuseml("run", "cancel", name, "--reason", "by Ada")
    run = workflow.wait_for(name, "failed", "cancelled", "succeeded")
    assert run["state"] == ("cancelled" if cancelled else "failed")
    assert ("by Ada" if cancelled else "was deleted before its end was reported") in run["cause"]
    resumed = json.loads(workflow.fuseml("run", "resume", name, "-o", "json"))["name"]
    workflow.wait_for(resumed, "running")
    workflow.fuseml("run", "cancel", resumed)
    workflow.wait_for(resumed, "cancelled")


def test_the_objects_of_a_finished_run_go_once_its_logs_are_kept(workflow: DeployedWorkflow) -> None:
    name = workflow.start(verdict="bad")
    workflow.wait_for(name, "failed")
    log = workflow.fuseml("run", "logs", name, "judge")
    assert "model-7 is bad" in log
    kinds, selector = "pipelineruns,taskruns,pods,secrets,persistentvolumeclaims", f"--selector={labels.NAME_LABEL}={name}"
    wait_until(lambda: not resources(kinds, selector, namespace="fuseml-workloads"), "all objects of the run to go")
    assert workflow.fuseml("run", "logs", name, "judge") == log


def test_no_pod_of_a_run_violates_the_pod_security_of_its_namespace(workflow: DeployedWorkflow) -> None:
    labels_ = json.loads(kubectl("get", "namespace", "fuseml-workloads", "--output=json"))["metadata"]["labels"]
    assert labels_["pod-security.kubernetes.io/enforce"] == "restricted"
    # A dry run names each present pod that would violate the standard.
    answer = commands.run(
        [
            "kubectl",
            "label",
            "--dry-run=server",
            "--overwrite",
            "namespace",
            "fuseml-workloads",
            "pod-security.kubernetes.io/warn=restricted",
        ],
        patience=60,
    )
    assert "violat" not in answer.stdout + answer.stderr
    events = resources("events", "--field-selector=reason=FailedCreate", namespace="fuseml-workloads")
    assert [event["message"] for event in events if "PodSecurity" in event["message"]] == []
