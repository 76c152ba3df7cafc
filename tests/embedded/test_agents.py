"""Agents of the registry: a push runs a job at the agent that the step's selector finds, and a project has its store at one."""

from __future__ import annotations

import pathlib
import re

from tests import agents, commands
from tests.embedded import servers

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
JOB = '#!/bin/sh\nset -e\necho "trains $FUSEML_EPOCHS epochs of $FUSEML_COMMIT"\nprintf "models:/%s" "$FUSEML_COMMIT" > "$FUSEML_ENV_RESULTS/model"\n'


SORTING = """
name: sorting
inputs:
  - {name: data, type: dataset}
outputs:
  - {name: model, type: model}
steps:
  - name: train
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
    script: |
      if env | grep -q canary; then echo "the step has the token of the store" >&2; exit 1; fi
      mkdir model
      sort "$FUSEML_DATA/letters" > model/weights
    outputs:
      - {name: model, artifact: {kind: model, path: model, name: sorted}}
"""


def test_artifacts_of_steps_are_read_from_an_agent_and_kept_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letters").write_text("b\na\n")
    with agents.store(tmp_path / "agent") as agent, servers.running(tmp_path / "home", "--mlflow", "none") as server:
        record = re.findall(r"```yaml\n# shelf.yaml\n(.*?)```", PAGE, re.DOTALL)[0]
        (tmp_path / "shelf.yaml").write_text(record.replace("http://shelf.example:8090", agent.url))
        environment = {**server.environment, "AGENT_TOKEN": agent.token}
        commands.fuseml("extension", "register", "-f", tmp_path / "shelf.yaml", environment=environment)
        server.post("/projects?name=demo")
        server.post("/workflows", raw=SORTING.encode())
        server.fuseml("artifact", "push", tmp_path / "data", "--kind", "dataset", "--name", "letters", "--tag", "latest")
        server.post("/runs", {"workflow": "sorting", "project": "demo", "inputs": {"data": "dataset://demo/letters@latest"}})
        run = server.finished_run("sorting-1")
        assert (run["state"], run["cause"]) == ("succeeded", None)
        server.fuseml("artifact", "pull", run["outputs"]["model"], "--to", tmp_path / "pulled")
        assert (tmp_path / "pulled" / "weights").read_text() == "a\nb\n"
        assert len([path for path in (agent.folder / "artifacts").rglob("versions/*") if path.is_file()]) == 2
        assert agent.token not in str(run) + server.fuseml("run", "logs", "sorting-1").stdout


def test_a_push_runs_a_job_of_the_agent_that_the_selector_finds(tmp_path: pathlib.Path) -> None:
    files = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
    script = tmp_path / "job.sh"
    script.write_text(JOB)
    script.chmod(0o755)
    with agents.command(tmp_path / "agent", str(script)) as agent, servers.running(tmp_path / "home", "--mlflow", "none") as server:
        (tmp_path / "trainers.yaml").write_text(files["trainers.yaml"].replace("http://jobs.example:8091", agent.url))
        (tmp_path / "workflow.yaml").write_text(files["remote-training.yaml"])
        environment = {**server.environment, "AGENT_TOKEN": agent.token}
        commands.fuseml("extension", "register", "-f", tmp_path / "trainers.yaml", environment=environment)
        server.fuseml("workflow", "create", tmp_path / "workflow.yaml")
        registration = server.post("/codesets?project=demo&name=code")
        server.call("POST", "/workflows/assignments?name=remote-training&codesetProject=demo&codesetName=code")
        checkout = servers.Checkout(tmp_path / "work", registration["codeset"]["url"], "ada", registration["password"])
        (tmp_path / "work" / "train.py").write_text("print(1)\n")
        commit = checkout.push("first")
        run = server.finished_run("remote-training-1")
        log = server.fuseml("run", "logs", "remote-training-1").stdout
        assert run["state"] == "succeeded", log
        assert run["outputs"] == {"model": f"models:/{commit}"}
        assert f"trains 3 epochs of {commit}" in log
        assert agent.token not in log + str(run)
