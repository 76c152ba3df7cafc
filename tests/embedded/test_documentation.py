"""Every command of the README and of the pages in docs/ runs, in reading order, as it stands there.

`uv run fuseml` is the installed command here.
"""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil

import pytest

from tests import commands
from tests.embedded import servers

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / path for path in dict.fromkeys(re.findall(r"\((docs/[a-z-]+\.md)\)", README))]
TEXT = "\n".join([README, *(page.read_text() for page in PAGES)])
COMMANDS = [line.split("#")[0].strip() for line in re.findall(r"^ {4}uv run (fuseml .+)$", TEXT, re.MULTILINE)]
# Run elsewhere: `up` is the server of this very test; CI and test_demo run `demo`.
ELSEWHERE = ("fuseml up", "fuseml demo")
# Commands that the server refuses in this order, with a word of the refusal.
REFUSED = {"fuseml run resume mlflow-e2e-2": "succeeded"}

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


def _files(folder: pathlib.Path) -> None:
    """The documents that the pages show, under the names that their first lines give, and the folder of records."""
    for name, content in re.findall(r"```(?:yaml|python)\n# (\S+\.(?:yaml|py))\n(.*?)```", TEXT, re.DOTALL):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "registry").mkdir()
    shutil.copy(folder / "minio.yaml", folder / "registry")
    (folder / "shared").symlink_to(ROOT / "shared")


def test_the_commands_of_the_documentation_work(tmp_path: pathlib.Path) -> None:
    _files(tmp_path)
    assert len(COMMANDS) > 20
    with servers.running(tmp_path / "home") as server:
        server.tracking_ready()
        environment = {**server.environment, "MINIO_SECRET": "hunter2hunter2", "AGENT_TOKEN": "hunter2hunter2hunter2", "COLUMNS": "120"}
        environment["FUSEML_CONFIG"] = str(tmp_path / "config.json")
        for command in COMMANDS:
            if command.startswith(ELSEWHERE):
                continue
            code = 1 if command in REFUSED else 0
            process = commands.run(shlex.split(command), cwd=tmp_path, environment=environment, text="y\n", code=code)
            assert REFUSED.get(command, "") in process.stderr, commands.describe(process)
            if command.startswith("fuseml workflow run"):
                server.settled()
        server.settled()
        assert server.get("/runs?limit=10")[0]["state"] == "succeeded"


def test_the_readme_names_the_two_first_commands() -> None:
    assert "    pip install uv && uv run fuseml demo     # sets everything up and runs the main job\n" in README
    assert "    pip install uv && uv run task test       # sets everything up and passes the tests\n" in README
    assert "pip install uv && uv run task test\n" in (ROOT / ".ci" / "run").read_text()
