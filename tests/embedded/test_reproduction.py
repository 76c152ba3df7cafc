"""`fuseml artifact reproduce`, `fuseml run diff` and `fuseml artifact provenance` on a real server."""

from __future__ import annotations

import base64
import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.embedded import servers
from tests.embedded.test_run_requests import request_run

WORKFLOW = """
name: {name}
inputs:
  - name: rows
    default: "7"
outputs:
  - name: data
steps:
  - name: make
    image: fuseml.local/shell:1
    inputs:
      - name: rows
        value: "{{{{ inputs.rows }}}}"
    script: |
      {contents} > contents
      printf 'sha256:%s' "$(sha256sum contents | cut -d ' ' -f 1)" > "$FUSEML_ENV_RESULTS/digest"
      printf 'dataset://p/{name}/1' > "$FUSEML_ENV_RESULTS/data"
      printf '{{"rows": %s}}' "$FUSEML_ROWS" > "$FUSEML_ENV_RESULTS/metrics"
    outputs:
      - name: data
      - name: digest
      - name: metrics
  - name: serve
    image: fuseml.local/shell:1
    needs: [make]
    script: |
      echo it is served
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("reproduction") / "home", "--mlflow", "none") as running:
        running.post("/projects?name=p")
        for name, contents in (("fixed", 'echo "$FUSEML_ROWS"'), ("moving", "date +%s%N")):
            running.post("/workflows", raw=WORKFLOW.format(name=name, contents=contents).encode())
        yield running


def start(server: servers.Server, workflow: str, **inputs: str) -> str:
    run = request_run(server, "/runs", {"workflow": workflow, "project": "p", "inputs": inputs})
    assert run["state"] == "succeeded", run["cause"]
    server.settled()
    return str(run["name"])


def test_the_same_contents_are_reproduced_without_the_steps_that_follow(server: servers.Server) -> None:
    first = start(server, "fixed")
    done = server.fuseml("artifact", "reproduce", "dataset://p/fixed/1")
    assert "dataset://p/fixed/1 is reproduced: run fixed-2 has made the same contents, sha256:" in done.stdout
    assert "Differences" not in done.stdout
    assert [step["name"] for step in server.get("/runs/fixed-2")["steps"]] == ["make"]
    result = json.loads(server.fuseml("artifact", "reproduce", "dataset://p/fixed/1", "-o", "json").stdout)
    assert (result["run"], result["again"], result["same"], result["differences"]) == (first, "fixed-3", True, [])
    assert result["digest"] == result["digest_again"]


def test_other_contents_are_not_reproduced(server: servers.Server) -> None:
    start(server, "moving")
    done = server.fuseml("artifact", "reproduce", "dataset://p/moving/1", code=1)
    assert "dataset://p/moving/1 is not reproduced: run moving-2 has made other contents." in done.stdout
    assert "make.digest" in done.stdout
    assert "make: dataset://p/moving" in done.stdout


def test_two_runs_differ_by_their_parameters_and_results(server: servers.Server) -> None:
    first, second = start(server, "fixed"), start(server, "fixed", rows="9")
    found = json.loads(server.fuseml("run", "diff", first, second, "-o", "json").stdout)
    assert (found["equal"], found["same_results"]) == (False, False)
    differences = {(item["kind"], item["name"]): (item["a"], item["b"]) for item in found["differences"]}
    assert differences.keys() == {
        ("parameter", "rows"),
        ("metric", "make.rows"),
        ("output", "make.digest"),
        ("artifact", "make: dataset://p/fixed"),
    }
    assert differences["parameter", "rows"] == ("7", "9")
    table = server.fuseml("run", "diff", first, second).stdout
    assert table.splitlines()[0].split() == ["KIND", "NAME", "FIRST", "SECOND"]
    assert "do not differ" in server.fuseml("run", "diff", first, first).stderr
    assert len(server.fuseml("run", "diff", first, first, "--all").stdout.splitlines()) > 5
    assert "there is no run named 'none-1'" in server.fuseml("run", "diff", first, "none-1", code=1).stderr


def test_the_provenance_is_written_to_a_file(server: servers.Server, tmp_path: pathlib.Path) -> None:
    run = start(server, "fixed")
    file = tmp_path / "fixed.intoto.json"
    server.fuseml("artifact", "provenance", "dataset://p/fixed/1", "-o", file)
    statement = json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))
    assert statement["subject"][0]["name"] == "dataset://p/fixed/1"
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["inputs"] == {"rows": "7"}
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"].startswith(f"{server.url}/runs/fixed-")
    assert run.startswith("fixed-")
    printed = server.fuseml("artifact", "provenance", "dataset://p/fixed/1").stdout
    assert json.loads(printed) == json.loads(file.read_text())
    assert server.fuseml("artifact", "public-key").stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    refused = server.fuseml("artifact", "provenance", "dataset://p/fixed/1", "-o", tmp_path / "none" / "file", code=1)
    assert "cannot be written: No such file or directory" in refused.stderr
