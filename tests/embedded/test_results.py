"""Two pipelines that only an artifact joins, on a real server: `--wait` follows both, and the results of the code name both."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers

TRAIN = """
name: {name}
inputs: [{{name: code, type: codeset}}]
outputs: [{{name: model, type: model}}]
steps:
  - name: fit
    image: fuseml.local/shell:1
    inputs: [{{name: code, codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}}}]
    script: sh train.sh && cp weights out
    outputs: [{{name: model, artifact: {{kind: model, path: out, format: lines, name: {name}}}}}]
"""
SERVE = """
name: {name}
inputs: [{{name: model, type: model}}, {{name: predictor, default: sklearn}}]
outputs: [{{name: url}}]
on: {{patterns: ["model://demo/{takes}"]}}
steps:
  - name: deploy
    image: fuseml.local/shell:1
    inputs: [{{name: model, artifact: {{address: "{{{{ inputs.model }}}}", path: /model}}}}, {{name: predictor, value: "{{{{ inputs.predictor }}}}"}}]
    script: |
      sleep 1
      if grep bad "$FUSEML_MODEL"/*; then exit 1; fi
      printf http://example.org/{name} > "$FUSEML_ENV_RESULTS/url"
    outputs: [{{name: url}}]
"""
WARM = "echo 1 > weights"


@pytest.fixture(scope="module", params=["", "delay,duplicate,reorder,seed=7"], ids=["calm", "chaos"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A server, once with a broker that delays, repeats and reorders events."""
    faults = ["--chaos", request.param] if request.param else []
    with servers.running(tmp_path_factory.mktemp("results") / "home", "--mlflow", "none", *faults) as running:
        yield running


def pipelines(server: servers.Server, name: str) -> None:
    """A training, and a serving of all that it makes; the training runs for one codeset of that name. The first runs have ended."""
    server.post("/workflows", raw=TRAIN.format(name=name).encode())
    server.post("/workflows", raw=SERVE.format(name=f"{name}-serving", takes=name).encode())
    server.fuseml("workflow", "assign", name, "-p", "demo", "-c", name)
    for run in (f"{name}-1", f"{name}-serving-1"):
        assert server.finished_run(run)["state"] == "succeeded"


def code(folder: pathlib.Path, script: str) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.sh").write_text(f"{script}\n")
    return folder


def first_push(server: servers.Server, name: str, folder: pathlib.Path) -> None:
    server.fuseml("codeset", "push", code(folder, WARM), "-p", "demo", "-n", name)


def results(server: servers.Server, name: str) -> list[dict[str, Any]]:
    printed = server.fuseml("pipeline", "results", "show", "-p", "demo", "-c", name, "--current-code", "--recursive", "-o", "json")
    return list(json.loads(printed.stdout))


def test_waiting_for_a_push_follows_the_pipeline_that_its_model_starts(server: servers.Server, tmp_path: pathlib.Path) -> None:
    first_push(server, "joined", tmp_path / "code")
    pipelines(server, "joined")
    code(tmp_path / "code", "echo 2 > weights")
    process = server.fuseml("codeset", "push", tmp_path / "code", "-p", "demo", "--name", "joined", "--wait")
    lines = [line.split(maxsplit=1)[1] for line in process.stdout.splitlines()[1:]]
    training, serving = results(server, "joined")
    assert [line for line in lines if line.startswith(f"{training['run']} fit  succeeded")], process.stdout
    assert f"{serving['run']}  started by {training['outputs'][0]['address']} of {training['run']}" in lines
    assert lines[-1].startswith(f"{serving['run']}  succeeded")
    assert [item["state"] for item in (training, serving)] == ["succeeded", "succeeded"]
    assert serving["outputs"] == [{"name": "url", "value": "http://example.org/joined-serving", "address": None}]
    table = server.fuseml("pipeline", "results", "show", "-p", "demo", "-c", "joined", "-r").stdout
    assert "predictor: sklearn (default)" in table
    assert "STATE" not in table


def test_a_failure_of_the_second_pipeline_fails_the_push_and_is_shown(server: servers.Server, tmp_path: pathlib.Path) -> None:
    first_push(server, "failing", tmp_path / "code")
    pipelines(server, "failing")
    code(tmp_path / "code", "echo bad > weights")
    process = server.fuseml("push", tmp_path / "code", "-p", "demo", "-n", "failing", "--wait", code=1)
    training, serving = results(server, "failing")
    assert (training["state"], serving["state"]) == ("succeeded", "failed")
    assert f"{serving['run']} deploy  failed" in process.stdout
    table = server.fuseml("pipeline", "results", "show", "-p", "demo", "-c", "failing", "-r").stdout
    assert f"failing-serving/{serving['number']}  failed" in table
    assert table.splitlines()[-1].startswith(f"failing-serving/{serving['number']} failed: ")


def test_a_push_that_makes_nothing_new_ends_with_its_own_run(server: servers.Server, tmp_path: pathlib.Path) -> None:
    """The same weights are the same version: it starts nothing again, and is a result of the new code nevertheless."""
    first_push(server, "same", tmp_path / "code")
    pipelines(server, "same")
    code(tmp_path / "code", f"{WARM} # a comment")
    process = server.fuseml("push", tmp_path / "code", "-p", "demo", "-n", "same", "--wait")
    assert "same-serving" not in process.stdout
    assert [item["run"] for item in results(server, "same")] == ["same-serving-1", "same-2"]


def test_a_push_without_a_pipeline_ends_at_once_and_says_why(server: servers.Server, tmp_path: pathlib.Path) -> None:
    process = server.fuseml("push", code(tmp_path / "code", WARM), "-p", "demo", "-n", "alone", "--wait", code=1)
    assert "error: the push started no run: no workflow is assigned to code://demo/alone" in process.stderr
    assert results(server, "alone") == []
