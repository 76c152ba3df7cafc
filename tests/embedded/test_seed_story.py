"""The story that FuseML was designed for: an MLOps engineer adds two pipelines that only models join, a data scientist publishes code, and the
results of the code are printed.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil

import pytest

from fuseml.client import api
from tests import commands
from tests.embedded import servers

EXAMPLE = pathlib.Path(__file__).parents[2] / "shared" / "fuseml" / "examples" / "codesets" / "sklearn-diabetes"
ENGINEER = """\
fuseml project create myproj
fuseml project set myproj
fuseml pipeline add mlflow-train --name training-pipeline --input mlflow_code='code://*'
fuseml pipeline add mlflow-serve --name serving-pipeline --input model='model://*'
"""
SCIENTIST = """\
fuseml project set myproj
fuseml codeset push path/to/code --name myapp --wait
fuseml pipeline results show --current-code --recursive
"""

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


def test_two_pipelines_joined_by_the_model_take_code_to_predictions(tmp_path: pathlib.Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "path" / "to" / "code")
    with servers.running(tmp_path / "home") as server:
        server.tracking_ready()
        environment = {**server.environment, "FUSEML_CONFIG": str(tmp_path / "config.json")}

        def run(line: str) -> str:
            return commands.run(shlex.split(line), cwd=tmp_path, environment=environment).stdout

        # What the administrator of the installation has done before.
        run("fuseml extension discover --apply")
        for line in ENGINEER.splitlines():
            run(line)
        set_project, push, show = SCIENTIST.splitlines()
        run(set_project)
        followed = run(push)
        for step in (
            "training-pipeline-1 builder  succeeded",
            "training-pipeline-1 trainer  succeeded",
            "serving-pipeline-1 predictor  succeeded",
        ):
            assert step in followed
        assert "serving-pipeline-1  started by model://myproj/" in followed

        header, *rows = [line.rstrip() for line in run(show).splitlines()]
        results = json.loads(run(f"{show} -o json"))
        assert header.split() == ["PIPELINE/RUN", "INPUTS", "OUTPUTS"]
        left, right = header.index("INPUTS"), header.index("OUTPUTS")
        cells = [(row[:left].strip(), row[left:right].strip(), row[right:].strip()) for row in rows]
        serving = next(index for index, (name, _, _) in enumerate(cells) if name == "serving-pipeline/1")
        commit = results[0]["inputs"][0]["address"].rpartition("/")[2]
        model = next(item["address"] for item in results[0]["outputs"] if item["name"] == "model")
        url = results[1]["outputs"][0]["value"]
        assert model.startswith("model://myproj/")
        assert cells[0][:2] == ("training-pipeline/1", f"mlflow_code: code://myproj/myapp/{commit[:7]}")
        assert f"model: {model}" in [output for _, _, output in cells[:serving]]
        assert cells[serving] == ("serving-pipeline/1", f"model: {model}", f"prediction-url: {url}")
        assert url.startswith("http://")
        assert len(results) == 2

        patient = dict.fromkeys(("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"), 0.0)
        [progression] = api.Client(server.url, server.token).predictions.predict(url, patient)
        assert 25 < float(str(progression)) < 346
        # The address by which the table names the code leads to the same results.
        assert (
            run(f"fuseml pipeline results show --code code://myproj/myapp/{commit[:7]} -r -o json") == json.dumps(results, indent=2) + "\n"
        )
