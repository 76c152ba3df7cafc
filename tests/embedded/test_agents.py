"""Agents of the registry: a push runs a job at the agent that the step's selector finds, and a project has its store at one."""

from __future__ import annotations

import pathlib
import re

from tests import agents, commands
from tests.embedded import servers

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
JOB = '#!/bin/sh\nset -e\necho "trains $FUSEML_EPOCHS epochs of $FUSEML_COMMIT"\nprintf "models:/%s" "$FUSEML_COMMIT" > "$FUSEML_ENV_RESULTS/model"\n'


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
