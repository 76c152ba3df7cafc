"""Artifacts of steps on a laptop: contents go from store to step and back, and survive every death of the server."""

from __future__ import annotations

import pathlib

import pytest

from tests.embedded import servers

WORKFLOW = """
name: shelf
inputs:
  - {name: data, type: dataset}
outputs:
  - {name: model, type: model}
  - {name: answer}
steps:
  - name: train
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
    script: |
      mkdir -p out/model
      sort "$FUSEML_DATA/train.csv" > out/model/weights
      cp out/model/weights scratch
    outputs:
      - {name: model, artifact: {kind: model, path: out/model, format: lines, name: sorted}}
      - {name: scratch, artifact: {kind: dataset, path: scratch, anonymous: true}}
  - name: use
    image: fuseml.local/shell:1
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", path: /model}}
      - {name: scratch, artifact: {address: "{{ steps.train.outputs.scratch }}"}}
    script: |
      cmp "$FUSEML_MODEL/weights" "$FUSEML_SCRATCH/scratch"
      head -n 1 "$FUSEML_MODEL/weights" > "$FUSEML_ENV_RESULTS/answer"
      if [ -e "$STORE" ]; then echo "the step reaches the store" >&2; exit 1; fi
    outputs:
      - name: answer
"""


@pytest.fixture
def server(tmp_path: pathlib.Path):
    with servers.running(tmp_path / "home", "--mlflow", "none") as running:
        yield running


def test_a_run_trains_on_a_pushed_dataset_and_a_later_step_reads_the_model(server: servers.Server, tmp_path: pathlib.Path) -> None:
    server.post("/projects?name=demo")
    (tmp_path / "train.csv").write_text("b\nc\na\n")
    server.fuseml("artifact", "push", tmp_path / "train.csv", "--kind", "dataset", "--name", "letters", "--project", "demo")
    [dataset] = server.get("/artifacts?kind=dataset")
    server.post("/workflows", raw=WORKFLOW.encode())
    server.post("/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": dataset["address"]}})
    run = server.finished_run("shelf-1")
    assert (run["state"], run["cause"]) == ("succeeded", None)
    assert run["outputs"]["answer"] == "a"
