"""`fuseml push` and `fuseml codeset register`: a registration by the API and a real git push."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml.cli import main
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, Request

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@dataclass(frozen=True)
class Workspace:
    """A folder of code, a codeset's repository, the environment of the command, and the requests that the server received."""

    code: Path
    repository: Path
    environment: dict[str, str]
    requests: list[Request]

    def fuseml(self, *arguments: str) -> int:
        return main.run(arguments, self.environment)

    def versions(self) -> list[str]:
        return commands.run(["git", "rev-list", "main"], cwd=self.repository, environment=self.environment, code=None).stdout.split()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    code, repository = tmp_path / "code", tmp_path / "diabetes.git"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "FUSEML_HOME": str(tmp_path),
        "FUSEML_CONFIG": str(tmp_path / "config.json"),
        "FUSEML_TOKEN": canned_api.TOKEN,
    }
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", repository], environment=environment)
    codeset = {"name": "diabetes", "project": "demo", "url": f"file://{repository}"}

    def runs(request: Request) -> Answer:
        state = "failed" if len(pushed_from.versions()) > 1 else "succeeded"
        return Answer([{**canned_api.RUN, "state": state, "commit": request.query["commit"][0]}])

    def why(request: Request) -> Answer:
        """The decision comes a moment after the push, and after a restart of the server."""
        asked.append(request.query["of"][0])
        if asked.count(asked[-1]) == 2:
            return canned_api.refused(503, "unavailable", "the database is away")
        state, reason = ("pending", "dispatcher has not handled it yet") if asked.count(asked[-1]) == 1 else ("running", "main was pushed")
        chain = [{"kind": "event", "text": "codeset.pushed", "event": 7}]
        outcomes = [{"state": state, "reason": reason, "run": None if state == "pending" else "mlflow-e2e-1"}]
        return Answer({"of": asked[-1], "kind": "commit", "answer": "", "stories": [{"chain": chain, "outcomes": outcomes}]})

    asked: list[str] = []

    def run(_: Request) -> Answer:
        return Answer({**canned_api.RUN, "state": "failed" if len(pushed_from.versions()) > 1 else "succeeded"})

    routes: dict[tuple[str, str], canned_api.Route] = {
        ("POST", "/codesets"): Answer({"codeset": codeset, "username": "u", "password": "p"}, 201),
        ("GET", "/why"): why,
        ("GET", "/runs"): canned_api.causing_no_run(runs),
        ("GET", "/runs/mlflow-e2e-1"): run,
    }
    with canned_api.serve(routes) as server:
        pushed_from = Workspace(code, repository, {**environment, "FUSEML_SERVER_URL": server.url}, server.requests)
        yield pushed_from


def test_a_folder_is_pushed_and_the_same_content_is_not_pushed_again(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.fuseml("push", str(workspace.code), "-p", "demo", "-n", "diabetes") == 0
    (version,) = workspace.versions()
    started = "Run mlflow-e2e-1 of mlflow-e2e is succeeded."
    assert capsys.readouterr().out == f"Pushed version {version[:12]} of demo/diabetes.\n{started}\n"
    assert workspace.fuseml("push", str(workspace.code), "-p", "demo", "-n", "diabetes", "--wait") == 0
    assert capsys.readouterr().out == f"Nothing to push: demo/diabetes already has these files (version {version[:12]}).\n"
    assert workspace.versions() == [version]


def test_waiting_follows_the_runs_and_fails_with_them(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.fuseml("push", str(workspace.code), "-p", "demo", "-n", "diabetes", "--wait") == 0
    assert "mlflow-e2e-1  succeeded" in capsys.readouterr().out
    (workspace.code / "train.py").write_text("print(2)\n")
    assert workspace.fuseml("push", str(workspace.code), "-p", "demo", "-n", "diabetes", "--wait") == 1
    assert "mlflow-e2e-1  failed" in capsys.readouterr().out


def test_a_push_that_starts_nothing_ends_at_once_with_the_reason(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = {"state": "nothing", "reason": "no workflow is assigned to code://demo/diabetes", "run": None}
    stories = [{"chain": [{"kind": "event", "text": "codeset.pushed", "event": 7}], "outcomes": [outcome]}]
    codeset = {"name": "diabetes", "project": "demo", "url": f"file://{workspace.repository}"}
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("POST", "/codesets"): Answer({"codeset": codeset, "username": "u", "password": "p"}, 201),
        ("GET", "/why"): Answer({"of": "", "kind": "commit", "answer": "", "stories": stories}),
        ("GET", "/runs"): Answer([]),
    }
    with canned_api.serve(routes) as server:
        arguments = ["codeset", "push", str(workspace.code), "-p", "demo", "--name", "diabetes", "--wait"]
        environment = {**workspace.environment, "FUSEML_SERVER_URL": server.url}
        assert main.run(arguments, environment) == 1
        reason = (
            "he push started no run: no workflow is assigned to code://demo/diabetes; "
            "`fuseml workflow assign NAME -p demo -c diabetes` assigns a workflow\n"
        )
        assert capsys.readouterr().err == f"error: t{reason}"
        # Without --wait the reason is a remark: the push has succeeded.
        (workspace.code / "train.py").write_text("print(2)\n")
        assert main.run(arguments[:-1], environment) == 0
        assert capsys.readouterr().err == f"T{reason}"


def test_registering_prints_the_url_and_pushes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.fuseml("codeset", "register", str(workspace.code), "-p", "demo", "-n", "diabetes", "--label", "a,b", "-m", "Mine") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Codeset file://{workspace.repository} successfully registered."
    assert second.startswith("Pushed version ")
    assert workspace.fuseml("codeset", "register", str(workspace.code), "-p", "demo", "-n", "diabetes", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "diabetes"


def test_the_account_of_the_git_host_is_that_of_the_server_of_the_options_or_of_the_file(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The repository is one of HTTP, which answers 401: git then sends the account."""
    accounts: list[str] = []

    def info(request: Request) -> Answer:
        if sent := request.headers.get("authorization", ""):
            accounts.append(base64.b64decode(sent.removeprefix("Basic ")).decode())
        return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})

    with canned_api.serve({("GET", "/git/demo/diabetes.git/info/refs"): info}, token=None) as host:
        codeset = {**canned_api.CODESET, "url": f"{host.url}/git/demo/diabetes.git"}
        for answer, options, expected in (
            ({"username": "server", "password": "canary-s"}, ["--user", "me", "--password", "canary-m"], "server:canary-s"),
            ({"username": "", "password": ""}, ["--user", "me", "--password", "canary-m"], "me:canary-m"),
            ({"username": "", "password": ""}, [], "filed:canary-f"),
        ):
            Path(workspace.environment["FUSEML_CONFIG"]).write_text('{"username": "filed", "password": "canary-f"}')
            with canned_api.serve({("POST", "/codesets"): Answer({"codeset": codeset, **answer}, 201)}) as server:
                environment = {**workspace.environment, "FUSEML_SERVER_URL": server.url}
                line = ["codeset", "register", str(workspace.code), "-p", "demo", "-n", "diabetes", *options]
                assert main.run(line, environment) == 1
            assert accounts[-1] == expected
    assert "canary" not in capsys.readouterr().err


def test_a_public_repository_can_be_registered_by_its_url(workspace: Workspace, tmp_path: Path) -> None:
    workspace.fuseml("push", str(workspace.code), "-p", "demo", "-n", "diabetes")
    source = tmp_path / "source.git"
    workspace.repository.rename(source)
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", workspace.repository], environment=workspace.environment)
    assert workspace.fuseml("codeset", "register", f"file://localhost{source}", "-p", "demo", "-n", "diabetes") == 0
    assert len(workspace.versions()) == 1


@pytest.mark.parametrize("command", [["push"], ["codeset", "push"], ["codeset", "register"]], ids=" ".join)
@pytest.mark.parametrize(
    ("location", "message"),
    [("nowhere", "nowhere is not a folder"), ("file://localhost/nowhere.git", "nowhere.git")],
    ids=["folder", "url"],
)
def test_a_missing_source_is_an_error_without_a_traceback_and_registers_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], command: list[str], location: str, message: str
) -> None:
    assert workspace.fuseml(*command, location, "-p", "demo", "-n", "diabetes") == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.startswith("error: "), message in printed.err) == ("", True, True)
    assert not workspace.requests


def test_the_demo_refuses_a_folder_with_files(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.fuseml("demo", "--home", str(workspace.code)) == 1
    assert capsys.readouterr().err == f"error: {workspace.code} is not empty; name a new folder\n"
    assert [path.name for path in workspace.code.iterdir()] == ["train.py"]
