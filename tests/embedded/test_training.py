"""Training elsewhere through `fuseml up`: a push trains on a real Ray head, and the model that it logs is that of the run."""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil
import sys

from tests import commands, workload_tools
from tests.component import steps
from tests.embedded import servers

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def block(page: str, name: str) -> str:
    """The YAML file of that name in a page."""
    found: list[str] = re.findall(rf"```yaml\n# {re.escape(name)}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return found[0]


def test_a_push_trains_on_a_real_head_of_ray(tmp_path: pathlib.Path) -> None:
    with workload_tools.ray_head(tmp_path) as ray, servers.running(tmp_path / "home") as server:
        record = block("tools/ray.md", "ray.yaml").replace("http://ray-head.example.com:8265", ray.url)
        (tmp_path / "ray.yaml").write_text(record)
        # The environment of the tests has MLflow and scikit-learn, as a cluster's would.
        program = f'{shlex.quote(sys.executable)} train.py; printf \'%s\' "$FUSEML_EPOCHS" > "$FUSEML_ENV_RESULTS/epochs"'
        workflow = block("steps.md", "training-elsewhere.yaml").replace("value: python train.py", f"value: {_quoted(program)}")
        (tmp_path / "workflow.yaml").write_text(
            workflow.replace("outputs: [{name: model}]", "outputs: [{name: model}, {name: epochs}, {name: job}]")
        )
        environment = {**server.environment, "RAY_AUTH_TOKEN": "ray-canary-4b20fd11"}
        commands.fuseml("extension", "register", "-f", tmp_path / "ray.yaml", environment=environment)
        server.tracking_ready()
        server.fuseml("extension", "discover", "--apply")
        server.fuseml("workflow", "create", tmp_path / "workflow.yaml")
        registration = server.post("/codesets?project=demo&name=diabetes")
        server.call("POST", "/workflows/assignments?name=training-elsewhere&codesetProject=demo&codesetName=diabetes")
        checkout = servers.Checkout(tmp_path / "work", registration["codeset"]["url"], "ada", registration["password"])
        shutil.copytree(steps.EXAMPLE, tmp_path / "work", dirs_exist_ok=True)
        checkout.push("first")

        run = server.finished_run("training-elsewhere-1")
        log = server.fuseml("run", "logs", "training-elsewhere-1").stdout
        assert run["state"] == "succeeded", (run["cause"], log)
        [step] = run["steps"]
        assert step["outputs"]["epochs"] == "3"
        assert run["outputs"]["model"] == "models:/sklearn-diabetes/1"
        assert "uploading the codeset to Ray" in log and "Running entrypoint for job" in log and "::fuseml-output" not in log
        assert "ray-canary" not in log + str(run) + server.fuseml("run", "plan", "training-elsewhere-1", code=None).stdout
        known = server.fuseml("artifact", "list", "--kind", "model").stdout
        assert "sklearn-diabetes" in known


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
