"""The examples of docs/agents.md: the agents in it run as gunicorn serves them, and keep the rules of their protocols."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from fuseml import artifactstores
from fuseml.agents import conformance, store_conformance, workload_conformance
from fuseml.artifactstores import Connection, folders
from fuseml.domain.artifact import Address
from fuseml.domain.registry import extension
from fuseml.domain.workflows import loading
from tests import agents

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))


def served(tmp_path: Path, name: str) -> str:
    """The application of an example, importable by gunicorn."""
    (tmp_path / name).write_text(FILES[name])
    assert len(FILES[name].splitlines()) < 60
    return f"{name.removesuffix('.py')}:app"


def test_the_store_of_the_page_is_an_agent(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "iris" / "2026.1"
    (release / "deep").mkdir(parents=True)
    (release / "deep" / "rows.csv").write_text("1,2\n")
    with agents.running(
        tmp_path, served(tmp_path, "releases.py"), {"RELEASES": str(tmp_path / "releases"), "PYTHONPATH": str(tmp_path)}
    ) as agent:
        store = artifactstores.connect(Connection("fuseml-artifact-store", agent.url, {"FUSEML_AGENT_TOKEN": agent.token}))
        [version] = store.versions("dataset", "demo", "iris").versions
        assert version.address == Address("dataset", "demo", "iris", "2026.1")
        folders.download(store, version.address, tmp_path / "target")
        assert (tmp_path / "target" / "deep" / "rows.csv").read_text() == "1,2\n"
        results = conformance.checked(store_conformance.StoreChecks(agent.url, agent.token).all())
    assert [result for result in results if result.result == "failed"] == []


def test_the_workload_of_the_page_is_an_agent(tmp_path: Path) -> None:
    with agents.running(tmp_path, served(tmp_path, "greeter.py"), {"PYTHONPATH": str(tmp_path)}) as agent:
        results = conformance.checked(workload_conformance.WorkloadChecks(agent.url, agent.token, {"who": "ada"}, 30.0).all())
    assert [result for result in results if result.result != "passed"] == []


@pytest.mark.parametrize("name", ["shelf.yaml", "trainers.yaml"])
def test_the_records_of_the_page_are_valid(name: str) -> None:
    record = extension.Extension.model_validate(yaml.safe_load(FILES[name]))
    [service] = record.services
    assert service.resource in (*artifactstores.CONNECTORS, "fuseml-workload")


def test_the_workflow_of_the_page_is_valid() -> None:
    assert loading.load(FILES["remote-training.yaml"]).name == "remote-training"


def test_the_commands_of_the_page_name_the_shipped_agents() -> None:
    served = re.findall(r"'(fuseml\.agents\.\w+:serve\(\))'", PAGE)
    assert served == ["fuseml.agents.folder_store:serve()", "fuseml.agents.command:serve()"]
    file = (Path(__file__).parents[2] / "infra" / "images" / "agents.Dockerfile").read_text()
    assert sorted(served) == sorted(re.findall(r'"(fuseml\.agents\.\w+:serve\(\))"', file))
    for command in re.findall(r"^    (docker build .*)$", PAGE, re.MULTILINE):
        words = shlex.split(command)
        assert f"FROM agent AS {words[words.index('--target') + 1]}" in file
