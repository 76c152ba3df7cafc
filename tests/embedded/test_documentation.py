"""Every command of the README and of the pages in docs/ runs, in reading order, as it stands there. So do the blocks of shell commands and the
requests behind them, and every notebook.

`uv run fuseml` is the command of this process.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import nbclient
import nbformat
import pytest

from tests import commands
from tests.embedded import servers
from tests.waiting import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / path for path in dict.fromkeys(re.findall(r"\((docs/[a-z-]+\.md)\)", README))]
TEXT = "\n".join([README, *(page.read_text() for page in PAGES)])
COMMANDS = [line.split("#")[0].strip() for line in re.findall(r"^ {4}uv run (fuseml .+)$", TEXT, re.MULTILINE)]
# Of pages about one machine: the others need a cluster, images, or servers of other teams.
BLOCKS = [
    block
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    if not re.search(r"\b(?:docker|kn|kubectl|skopeo|task (?:un)?deploy|fuseml (?:extension )?(?:un)?install)\b|\.example\.com\b", block)
]
REQUESTS = re.findall(r"^ {4}(GET|POST) +(/\S+)", TEXT, re.MULTILINE)
APPLICATION = "demo-diabetes-mlflow-e2e"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# Run elsewhere: `up` is the server of this very test; CI and test_demo run `demo`.
ELSEWHERE = ("fuseml up", "fuseml demo")
# Commands that the server refuses in this order, with a word of the refusal.
REFUSED = {"fuseml run resume mlflow-e2e-2": "succeeded"}

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


def _files(folder: pathlib.Path) -> None:
    """The documents that the pages show, under the names that their first lines give, and the folder of records."""
    for name, content in re.findall(r"```(?:yaml|python)\n# (\S+\.(?:yaml|py))\n(.*?)```", TEXT, re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "registry").mkdir()
    (folder / "service-account.json").write_text('{"type": "service_account"}\n')
    shutil.copy(folder / "minio.yaml", folder / "registry")
    (folder / "shared").symlink_to(ROOT / "shared")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("documentation") / "home") as running:
        running.tracking_ready()
        yield running


def test_the_commands_of_the_documentation_work(server: servers.Server, tmp_path: pathlib.Path) -> None:
    _files(tmp_path)
    assert len(COMMANDS) > 20
    environment = {**server.environment, "MINIO_SECRET": "hunter2hunter2", "AGENT_TOKEN": "hunter2hunter2hunter2", "COLUMNS": "120"}
    environment["FUSEML_CONFIG"] = str(tmp_path / "config.json")
    for command in COMMANDS:
        if command.startswith(ELSEWHERE):
            continue
        code = 1 if command in REFUSED else 0
        # No test leaves this machine. Nothing listens there, which the status of the codeset shows.
        words = shlex.split(command.replace("https://git.example.com", "http://127.0.0.1:9"))
        process = commands.fuseml_here(*words[1:], cwd=tmp_path, environment=environment, text="y\n", code=code)
        assert REFUSED.get(command, "") in process.stderr, commands.describe(process)
        if command.startswith("fuseml workflow run"):
            server.settled()
    server.settled()
    assert server.get("/runs?limit=10")[0]["state"] == "succeeded"
    assert server.finished_run("promote-1")["state"] == "succeeded"
    _blocks_work(server, tmp_path)
    for method, path in REQUESTS:
        address = f"/apps/{APPLICATION}{path.replace('NAME', APPLICATION)}"
        response = server.call(method, address, json.loads((tmp_path / "request.json").read_text()) if method == "POST" else None)
        assert response.status == 200, (method, address, response)


def _blocks_work(server: servers.Server, folder: pathlib.Path) -> None:
    """Run each block of shell commands as a user of this server does."""
    row = json.loads(re.findall(r"^ {4}(\{.*\})$", TEXT, re.MULTILINE)[0])
    tensors = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in row.items()]
    (folder / "request.json").write_text(json.dumps({"inputs": tensors}))
    # Git asks for the user name, then for the password.
    (folder / "askpass").write_text('#!/bin/sh\ncase "$1" in Username*) echo ada ;; *) echo "$FUSEML_TOKEN" ;; esac\n')
    (folder / "askpass").chmod(0o700)
    environment = {
        **server.environment,
        "FUSEML_SERVER_URL": server.url,
        "FUSEML_TOKEN": server.token,
        "GIT_ASKPASS": str(folder / "askpass"),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    assert len(BLOCKS) > 4
    for number, block in enumerate(BLOCKS):
        script = block.replace("http://127.0.0.1:8000", server.url).replace("curl ", "curl --fail-with-body --silent --show-error ")
        place = folder / f"block-{number}"
        place.mkdir()
        for name in ("request.json", "first.yaml", "scale.py"):
            shutil.copy(folder / name, place)
        commands.run(["bash", "-euo", "pipefail", "-c", script], environment, cwd=place)
    server.settled()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_run(server: servers.Server, tmp_path: pathlib.Path, path: pathlib.Path) -> None:
    server.fuseml("extension", "discover", "--apply")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    assert all(not cell.get("outputs") for cell in notebook.cells), "a notebook is kept without its outputs"

    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=folder).execute(env=server.environment)

    shown = {cell.id: _shown(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert "<h4>Plan of train-and-serve</h4>" in shown["plan"]
    assert ">succeeded</span>" in shown["run"]
    assert "prediction" in shown["predict"]
    assert "<code>code://notebook/diabetes/" in shown["lineage"]
    assert "MLmodel" in shown["pull"]
    assert shown["events"].count("org.fuseml.run.") == 3


def _shown(cell: Any) -> str:
    """All that the cell shows: its output as HTML where it has that form, else as text."""
    parts = [
        output.get("data", {}).get("text/html") or output.get("data", {}).get("text/plain") or output.get("text", "")
        for output in cell.outputs
    ]
    return "\n".join(parts)


def test_the_readme_names_the_two_first_commands() -> None:
    assert "    pip install uv && uv run fuseml demo     # sets everything up and runs the main job\n" in README
    assert "    pip install uv && uv run task test       # sets everything up and passes the tests\n" in README
    assert "pip install uv && uv run task test\n" in (ROOT / ".ci" / "run").read_text()
