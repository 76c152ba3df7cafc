"""Runs on a real cluster, by the commands that people use: logs while they are written, answers, cancelling, repeating, mending, time limits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.images import image

from .deployment import Deployment, wait_until

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
class World:
    deployment: Deployment
    name: str

    def fuseml(self, *arguments: str, code: int = 0) -> str:
        return self.deployment.fuseml(*arguments, code=code)

    def start(self, **inputs: str) -> str:
        """The name of a new run."""
        given = [part for name, value in inputs.items() for part in ("-i", f"{name}={value}")]
        name: str = json.loads(self.fuseml("workflow", "run", self.name, *given, "-o", "json"))["name"]
        return name

    def run(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.deployment.told(f"/runs/{name}")
        return told

    def states(self, name: str) -> dict[str, str]:
        return {step["name"]: step["state"] for step in self.run(name)["steps"]}

    def wait_for(self, name: str, *states: str) -> dict[str, Any]:
        wait_until(lambda: self.run(name)["state"] in states, lambda: f"{name} to be {states}: {self.run(name)}")
        return self.run(name)


@pytest.fixture(scope="module")
def world(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(deployment, f"steered-{os.urandom(2).hex()}")
    file: Path = tmp_path_factory.mktemp("workflow") / "workflow.yaml"
    file.write_text(WORKFLOW.replace("NAME", made.name).replace("IMAGE", image("SHELL")))
    made.fuseml("workflow", "create", str(file))
    yield made
    made.fuseml("workflow", "delete", made.name, "--force")


def test_a_log_is_followed_while_it_is_written(world: World) -> None:
    name = world.start(lines="12")
    wait_until(lambda: world.states(name)["train"] == "running", "the step to run")
    command = [*commands.FUSEML, "run", "logs", name, "train", "-f"]
    with subprocess.Popen(command, env=world.deployment.environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        seen = [following.stdout.readline()]
        assert world.states(name)["train"] == "running", "the first line is there before the step has ended"
        seen += list(following.stdout)
    assert following.returncode == 0
    assert [line.strip() for line in seen if line.startswith("line ")] == [f"line {number}" for number in range(12)]
    world.wait_for(name, "waiting")


def test_a_run_waits_for_an_answer_and_goes_on_in_a_second_execution(world: World) -> None:
    name = world.start()
    world.wait_for(name, "waiting")
    assert world.states(name) == {"train": "succeeded", "judge": "succeeded", "late": "skipped", "serve": "waiting"}
    world.fuseml("run", "approve", name, "--comment", "looks good")
    ended = world.wait_for(name, "succeeded", "failed")
    assert (ended["state"], ended["outputs"]) == ("succeeded", {"served": f"model-7 by {name}"})
    assert "looks good" in world.fuseml("run", "get", name)


def test_a_rejection_fails_the_run(world: World) -> None:
    name = world.start()
    world.wait_for(name, "waiting")
    world.fuseml("run", "reject", name, "--comment", "not today")
    ended = world.wait_for(name, "failed", "succeeded")
    assert (ended["state"], world.states(name)["serve"]) == ("failed", "failed")
    assert "not today" in ended["cause"]


def test_a_step_that_fails_is_tried_again_and_the_run_resumed_from_it(world: World) -> None:
    name = world.start(verdict="bad")
    ended = world.wait_for(name, "failed", "succeeded")
    steps = {step["name"]: step for step in ended["steps"]}
    assert (ended["state"], steps["judge"]["attempts"], steps["serve"]["state"]) == ("failed", 2, "skipped")
    assert "exited with code 1" in steps["judge"]["cause"]
    assert world.fuseml("run", "logs", name, "judge").count("model-7 is bad") >= 1
    resumed = json.loads(world.fuseml("run", "resume", name, "-o", "json"))["name"]
    again = world.wait_for(resumed, "failed", "succeeded")
    known = {step["name"]: step for step in again["steps"]}
    assert known["train"]["reused_from"] == name
    assert (known["judge"]["state"], again["state"]) == ("failed", "failed")


def test_a_step_that_takes_too_long_is_stopped_and_fails_the_run(world: World) -> None:
    name = world.start(verdict="late")
    ended = world.wait_for(name, "failed", "succeeded")
    steps = {step["name"]: step for step in ended["steps"]}
    assert (ended["state"], steps["late"]["state"], steps["serve"]["state"]) == ("failed", "failed", "skipped")
    assert "timed out after 5 s" in steps["late"]["cause"]


def test_a_run_is_cancelled_with_its_pods(world: World) -> None:
    name = world.start(lines="600")
    wait_until(lambda: "line 1" in world.fuseml("run", "logs", name, "train"), "the step to write")
    world.fuseml("run", "cancel", name)
    ended = world.wait_for(name, "cancelled", "failed", "succeeded")
    assert (ended["state"], world.states(name)["train"]) == ("cancelled", "cancelled"), ended
    assert "line 0" in world.fuseml("run", "logs", name, "train")
