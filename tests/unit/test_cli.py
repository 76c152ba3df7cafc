"""The `fuseml` command against a real HTTP server with canned responses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fuseml.cli import main
from tests.commands import FUSEML, python
from tests.component import canned_api
from tests.component.canned_api import TOKEN, Answer, CannedApi, Request, refused
from tests.waiting import PATIENCE

Run = Callable[..., int]


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve() as running:
        yield running


@pytest.fixture
def fuseml(server: CannedApi, tmp_path: Path) -> Run:
    """Run a command line against the server; the exit code."""
    server.requests.clear()

    def run(*arguments: str, url: str = server.url, token: str = TOKEN) -> int:
        return main.run(arguments, variables(tmp_path, url, token))

    return run


def variables(home: Path, url: str, token: str = TOKEN) -> dict[str, str]:
    given = {"FUSEML_SERVER_URL": url, "FUSEML_TOKEN": token, "FUSEML_HOME": str(home), "FUSEML_CONFIG": str(home / "config.json")}
    return {"PATH": os.environ["PATH"], **{key: value for key, value in given.items() if value}}


def commands() -> Iterator[tuple[str, ...]]:
    """The paths of all commands, groups included."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))

    return walk(typer.main.get_command(main.app), ())


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_help_fits_a_terminal_and_every_command_shows_an_example(
    path: tuple[str, ...], fuseml: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert fuseml(*path, "--help") == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    if "Commands:" in text:
        # No summary is cut off.
        assert not [line for line in text.partition("Commands:")[2].splitlines() if line.endswith("...")]
    else:
        assert f"Example:\n    fuseml {' '.join(path)}" in text


def test_help_imports_no_heavy_package() -> None:
    heavy = [
        "rich",
        "urllib3",
        "pydantic",
        "yaml",
        "flask",
        "sqlmodel",
        "mlflow",
        "dulwich",
        "platformdirs",
        "fuseml.client.api",
        "fuseml.client.transport",
        "fuseml.client.session",
        "fuseml.embedded",
    ]
    script = f"import sys; from fuseml.cli import main; main.run(['--help'], {{}}); sys.exit(','.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    assert python(script).stderr == ""


READS = {
    "project list": [canned_api.PROJECT],
    "project get demo": canned_api.PROJECT,
    "codeset list": [canned_api.CODESET],
    "codeset get -p demo -n diabetes": canned_api.CODESET,
    "workflow list": [canned_api.WORKFLOW],
    "workflow get mlflow-e2e": canned_api.WORKFLOW,
    "workflow list-assignments": [canned_api.ASSIGNMENT],
    "workflow list-runs -n mlflow-e2e": [canned_api.RUN],
    "run list": [canned_api.RUN],
    "run get mlflow-e2e-1": canned_api.RUN,
    "application list": [canned_api.APPLICATION],
    "application get demo-diabetes": canned_api.APPLICATION,
    "artifact list": [canned_api.ARTIFACT],
    "artifact get model://demo/diabetes/1": canned_api.ARTIFACT,
    "artifact get model://demo/diabetes@champion": canned_api.ARTIFACT,
    "artifact search --kind model": [canned_api.ARTIFACT],
    "artifact history model://demo/diabetes/1": canned_api.HISTORY,
    "artifact lineage model://demo/diabetes/1": canned_api.LINEAGE,
    "artifact tag model://demo/diabetes/1 champion": canned_api.ARTIFACT,
    "artifact untag model://demo/diabetes@champion champion": canned_api.ARTIFACT,
    "artifact label model://demo/diabetes/1 reviewed": canned_api.ARTIFACT,
    "extension list": [canned_api.EXTENSION],
    "extension get mlflow": canned_api.EXTENSION,
    "extension service list mlflow": [canned_api.SERVICE],
    "extension endpoint list mlflow tracking": canned_api.SERVICE["endpoints"],
    "extension credentials list mlflow tracking": canned_api.SERVICE["credentials"],
    "resolve -r mlflow-tracking": {"bindings": [canned_api.BINDING], "explanations": canned_api.EXPLANATIONS},
    "status": {"status": "ready", "components": {"mlflow": {"status": "starting"}}},
    "project create demo": canned_api.PROJECT,
    "run cancel mlflow-e2e-1": {**canned_api.RUN, "state": "cancelled"},
    "extension register --product mlflow": canned_api.EXTENSION,
}


@pytest.mark.parametrize("line", READS)
def test_json_and_yaml_output_is_the_object_of_the_api(line: str, fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(*line.split(), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == READS[line]
    assert fuseml(*line.split(), "--format", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == READS[line]


@pytest.mark.parametrize("line", READS)
def test_every_table_shows_values_without_placeholders(line: str, fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(*line.split()) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert any(word in printed.out for word in ("demo", "mlflow", "diabetes", "http://127.0.0.1:5000", "MLFLOW_TRACKING_TOKEN"))
    assert "None" not in printed.out
    assert "\x1b" not in printed.out


SENTENCES = {
    "project create demo --desc x": "Project demo successfully created.",
    "project delete -n demo": "Project demo successfully deleted.",
    "codeset delete -p demo -n diabetes": "Codeset diabetes successfully deleted.",
    "workflow delete --name=mlflow-e2e": "Workflow mlflow-e2e successfully deleted.",
    "workflow assign mlflow-e2e -p demo -c diabetes": 'Workflow "mlflow-e2e" assigned to codeset "demo/diabetes".',
    "workflow unassign -n mlflow-e2e -p demo -c diabetes": 'Workflow "mlflow-e2e" unassigned from codeset "demo/diabetes".',
    "run cancel mlflow-e2e-1": "Run mlflow-e2e-1 is being cancelled.",
    "application publish demo-diabetes": f"Application demo-diabetes is public: {canned_api.APPLICATION['url']}.",
    "application publish demo-diabetes --no-public": f"Application demo-diabetes is no longer public: {canned_api.APPLICATION['url']}.",
    "application delete demo-diabetes": "Application demo-diabetes successfully deleted.",
    "extension register --id mlflow": 'Extension "mlflow" successfully registered.',
    "extension update mlflow --version 3.2": 'Extension "mlflow" successfully updated.',
    "extension delete mlflow": "Extension mlflow successfully deleted.",
    "extension service add mlflow --id tracking": 'Service "tracking" successfully added to extension "mlflow".',
    "extension service update mlflow tracking --no-auth-required": 'Service "tracking" from extension "mlflow" successfully updated.',
    "extension service delete mlflow tracking": 'Service "tracking" successfully deleted from extension "mlflow".',
    "extension endpoint add mlflow tracking http://other": 'Endpoint "http://other" successfully added to service "tracking" from extension "mlflow".',
    "extension endpoint update mlflow tracking http://other --type internal": (
        'Endpoint "http://other" of service "tracking" from extension "mlflow" successfully updated.'
    ),
    "extension endpoint delete mlflow tracking http://other": (
        'Endpoint "http://other" successfully deleted from service "tracking" from extension "mlflow".'
    ),
    "extension credentials add mlflow tracking --id ci": (
        'Credentials "ci" successfully added to service "tracking" from extension "mlflow".'
    ),
    "extension credentials update mlflow tracking ci --proj demo": (
        'Credentials "ci" of service "tracking" from extension "mlflow" successfully updated.'
    ),
    "extension credentials delete mlflow tracking ci": (
        'Credentials "ci" successfully deleted from service "tracking" from extension "mlflow".'
    ),
}


FATES = {
    "workflow unassign mlflow-e2e -p demo -c diabetes": "Unfinished runs continue: mlflow-e2e-1; `fuseml run cancel RUN` stops one.",
    "workflow unassign mlflow-e2e -p demo -c diabetes --cancel": "Unfinished runs are cancelled: mlflow-e2e-1.",
    "workflow delete mlflow-e2e --force": "Unfinished runs are cancelled: mlflow-e2e-1.",
    "codeset delete -p demo -n diabetes": "Unfinished runs are cancelled: mlflow-e2e-1.",
}


@pytest.mark.parametrize("line", FATES)
def test_a_removal_says_what_becomes_of_unfinished_runs(
    line: str, fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = {**canned_api.RUN, "state": "running"}
    answers = {"running": [running], "queued": [], "waiting": [running]}
    routes = {**canned_api.CONTRACT, ("GET", "/runs"): lambda request: canned_api.Answer(answers[request.query["state"][0]])}
    monkeypatch.setattr(server, "_routes", routes)
    assert fuseml(*line.split()) == 0
    assert capsys.readouterr().out.endswith(f" {FATES[line]}\n")
    (removal,) = [request for request in server.requests if request.method == "DELETE"]
    assert ("cancel" in removal.query) == ("--cancel" in line)


@pytest.mark.parametrize("line", SENTENCES)
def test_every_change_prints_one_sentence(line: str, fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(*line.split()) == 0
    assert capsys.readouterr().out == SENTENCES[line] + "\n"


def sent(server: CannedApi) -> Any:
    return json.loads(server.requests[-1].body)


def test_flags_become_the_fields_of_the_record(fuseml: Run, server: CannedApi) -> None:
    fuseml(
        "extension",
        "service",
        "add",
        "mlflow",
        "-r",
        "s3",
        "--no-auth-required",
        "--configuration",
        "URL=http://a:1,b",
        "--configuration",
        "K:v=w",
    )
    assert sent(server) == {"resource": "s3", "auth_required": False, "configuration": {"URL": "http://a:1,b", "K": "v=w"}}
    fuseml("extension", "credentials", "update", "mlflow", "tracking", "ci", "--project", "a", "--proj", "b", "--default")
    assert sent(server) == {"projects": ["a", "b"], "default": True}


def test_a_file_is_sent_unchanged(fuseml: Run, server: CannedApi, tmp_path: Path) -> None:
    record = tmp_path / "mlflow.yaml"
    record.write_text("product: mlflow # the one\n")
    assert fuseml("extension", "register", "-f", str(record)) == 0
    assert server.requests[-1].body == b"product: mlflow # the one\n"


def test_a_workflow_is_updated_under_the_name_in_its_document(fuseml: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "w.yaml"
    document.write_text("name: mlflow-e2e\n")
    assert fuseml("workflow", "update", str(document)) == 0
    assert capsys.readouterr().out == 'Workflow "mlflow-e2e" successfully updated (revision 3).\n'
    document.write_text("steps: [\n")
    assert fuseml("workflow", "update", str(document)) == 1
    assert re.match(rf"error: {document}:\d+:\d+: ", capsys.readouterr().err)


def test_logs_go_to_standard_output_and_their_titles_do_not(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("run", "logs", "mlflow-e2e-1") == 0
    printed = capsys.readouterr()
    assert printed.out == "epoch 1: süß\nready\n"
    assert printed.err == "==> trainer <==\n==> predictor <==\n"
    assert fuseml("run", "logs", "mlflow-e2e-1", "trainer", "-f") == 0
    assert capsys.readouterr().out == "epoch 1: süß\n"


def test_an_explanation_has_a_sentence_for_each_candidate(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("resolve", "--product", "mlflow", "--explain") == 0
    assert "rejected  mlflow-old: version 1.10.3 does not satisfy >=2.0" in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_an_unreachable_server_is_one_line_with_advice(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("project", "list", url="http://127.0.0.1:1") == 1
    assert "no FuseML server answers at http://127.0.0.1:1; start one with `fuseml up`" in one_line(capsys)


def test_the_error_for_a_wrong_token_does_not_contain_it(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("project", "list", token="canary") == 1
    message = one_line(capsys)
    assert "FUSEML_TOKEN is set: correct it for this server" in message
    assert "canary" not in message
    assert fuseml("--token", "canary", "project", "list", token="") == 1
    assert "pass --token or set FUSEML_TOKEN" in one_line(capsys)


def test_a_missing_object_is_reported(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("run", "get", "nothing-1") == 1
    assert "nothing is served at /runs/nothing-1" in one_line(capsys)


def test_a_missing_file_is_reported(fuseml: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert fuseml("workflow", "create", str(tmp_path / "missing.yaml")) == 1
    assert "there is no file" in one_line(capsys)
    assert fuseml("workflow", "create", str(tmp_path)) == 1
    assert "is not a text file" in one_line(capsys)


def test_a_file_and_flags_together_are_refused(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("extension", "service", "add", "mlflow", "-f", "s.yaml", "--auth-required") == 1
    assert "remove --auth-required" in one_line(capsys)


def test_an_update_without_a_change_is_refused(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("extension", "update", "mlflow") == 1
    assert "no change is given" in one_line(capsys)


PROBLEMS = [
    {"path": "steps[0].imag", "message": "unknown key 'imag'", "line": 7, "column": 5, "suggestion": "image"},
    {"path": "name", "message": "is required"},
]


@pytest.mark.parametrize("status", [400, 422])
def test_each_problem_of_a_document_is_a_line_with_its_place(status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "w.yaml"
    document.write_text("steps: []\n")
    for count, message in (
        (1, f"error: {document}:7:5: steps[0].imag: unknown key 'imag' (did you mean 'image'?)\n"),
        (
            2,
            f"error: {document} is not valid, 2 problems:\n"
            "  7:5: steps[0].imag: unknown key 'imag' (did you mean 'image'?)\n"
            "  name: is required\n",
        ),
    ):
        refusal = refused(status, "invalid", "the body is not valid", problems=PROBLEMS[:count])
        with canned_api.serve({("POST", "/workflows"): refusal}) as refusing:
            assert main.run(["workflow", "create", str(document)], variables(tmp_path, refusing.url)) == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", message)


def test_an_unresolved_selector_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = refused(
        422, "unresolved", "no extension satisfies the selector", unresolved=["selector"], explanations=canned_api.EXPLANATIONS
    )
    with canned_api.serve({("POST", "/resolve"): refusal}) as refusing:
        assert main.run(["resolve", "--version", ">=2"], variables(tmp_path, refusing.url)) == 1
    assert capsys.readouterr().err == ("error: no extension satisfies the selector\n  mlflow-old: version 1.10.3 does not satisfy >=2.0\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "no such command 'nonsense'"),
        ("project get", "missing argument 'NAME'"),
        ("project list --nonsense", "no such option: --nonsense"),
        ("push .", "missing option"),
        ("project list -o xml", "'xml'"),
        ("--timeout never project list", "--timeout"),
        ("extension register", "give one of --file, --id and --product"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint_at_the_help(line: str, message: str, fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(*line.split()) == 2
    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert re.fullmatch(r"Try `fuseml.* --help`\.", second)


@pytest.mark.parametrize("group", ["", "run", "extension service"])
def test_a_group_without_a_command_prints_its_help(group: str, fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(*group.split()) == 2
    assert "Commands:" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_a_traceback_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("POST", "/projects"): Answer({}, 201), ("POST", "/extensions"): Answer({}, 201)}) as odd:
        environment = variables(tmp_path, odd.url)
        line = ["extension", "register", "--id", "x"]
        assert main.run(line, environment) == 1
        assert "FUSEML_DEBUG=1" in one_line(capsys)
        assert main.run(line, {**environment, "FUSEML_DEBUG": "1"}) == 1
        assert "Traceback" in capsys.readouterr().err


def test_an_empty_list_prints_advice_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("GET", "/projects"): Answer([])}) as empty:
        assert main.run(["project", "list"], variables(tmp_path, empty.url)) == 0
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", "There is no project; `fuseml project create NAME` creates one.\n")
        assert main.run(["project", "list", "-o", "json"], variables(tmp_path, empty.url)) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_status_fails_for_a_server_that_is_not_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("GET", "/readyz"): Answer({"status": "starting", "components": {}}, 503)}) as starting:
        assert main.run(["status"], variables(tmp_path, starting.url)) == 1
    assert "starting" in capsys.readouterr().out


def test_the_version_is_shown_without_a_server(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("version", url="http://127.0.0.1:1") == 0
    assert "Server: not reachable" in capsys.readouterr().out
    assert fuseml("version", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["server"] == {"version": "0.1.0"}


# In a child process: signals, pipes and terminals.


def start(
    server: CannedApi, home: Path, *arguments: str, variables_beside: Mapping[str, str] | None = None, **streams: Any
) -> subprocess.Popen[bytes]:
    environment = {**variables(home, server.url), "COLUMNS": "80", "TERM": "xterm", **(variables_beside or {})}
    return subprocess.Popen([*FUSEML, *arguments], env=environment, **streams)


def test_an_interrupted_command_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    requests = []

    def running(request: Request) -> Answer:
        requests.append(request)
        if len(requests) == 2:
            process.send_signal(signal.SIGINT)
        return Answer({**canned_api.RUN, "state": "running", "finished": None})

    with canned_api.serve({("GET", "/runs/mlflow-e2e-1"): running}) as server:
        process = start(server, tmp_path, "run", "watch", "mlflow-e2e-1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (130, b"")


def test_a_closed_output_pipe_ends_the_command_quietly(server: CannedApi, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(server, tmp_path, "run", "list", "-o", "json", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (1, b"")
