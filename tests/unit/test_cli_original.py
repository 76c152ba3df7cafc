"""Commands as the original and the first designs wrote them, and one way to write each in the help."""

from __future__ import annotations

import collections
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fuseml.cli import codesets, main, short_options
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import one_line, variables

RUNNABLE = {"name": "trainer", "version": "1.0.0", "address": "runnable://demo/trainer/1.0.0", "kind": "trainer"}

ORIGINAL = """
version --format yaml
project create -n demo -d first
project get -n demo --format json
project list --format csv --field Name
project set -n demo
project delete -n demo
codeset get -n diabetes -p demo --format yaml
codeset list -p demo -l sklearn --format table
codeset list --all
codeset set -n diabetes -p demo
codeset delete -n diabetes -p demo
application list -t predictor -w mlflow-e2e --field Name --field URL
application get -n demo-diabetes --format json
application delete -n demo-diabetes
runnable register {file}
runnable get -n trainer
runnable get --id trainer --format yaml
runnable list -i trainer -k trainer --label a:b
workflow create {file}
workflow get -n mlflow-e2e --format text
workflow list -n mlflow-e2e
workflow delete -n mlflow-e2e
workflow assign -n mlflow-e2e -p demo -c diabetes
workflow assign --name mlflow-e2e --codeset-project demo --codeset-name diabetes
workflow unassign -n mlflow-e2e -p demo -c diabetes
workflow list-assignments -n mlflow-e2e
workflow list-runs -n mlflow-e2e -p demo -c diabetes -s Succeeded
extension register --id mlflow --desc x -p mlflow --version 3 -z here -c KEY:value
extension register -f {file}
extension get mlflow --format text
extension list --id mlflow -p mlflow --version 3 -z here --service-id tracking -r s3 -c model-store
extension update mlflow --desc x -p mlflow --version 3 -z here -c KEY:value
extension delete mlflow
extension service add mlflow --id tracking --desc x -r s3 -c model-store --auth-required --configuration K:V
extension service update mlflow tracking -r s3
extension service list mlflow --format yaml
extension service delete mlflow tracking
extension endpoint add mlflow tracking http://other --type external -c KEY:value
extension endpoint update mlflow tracking http://other -c KEY:value
extension endpoint list mlflow tracking
extension endpoint delete mlflow tracking http://other
extension credentials add mlflow tracking --id ci --scope global --proj demo --user ada -c KEY:value
extension credentials update mlflow tracking ci --proj demo --user ada -c KEY:value
extension credentials list mlflow tracking --field ID --field Scope
extension credentials delete mlflow tracking ci
"""


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    routes: dict[tuple[str, str], canned_api.Route] = {
        **canned_api.CONTRACT,
        ("GET", "/runnables"): Answer([RUNNABLE]),
        ("POST", "/runnables"): Answer(RUNNABLE, 201),
        ("GET", "/runnables/trainer"): Answer(RUNNABLE),
    }
    with canned_api.serve(routes) as running:
        yield running


@pytest.mark.parametrize("line", ORIGINAL.strip().splitlines())
def test_every_command_of_the_original_works(line: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "document.yaml"
    file.write_text("name: mlflow-e2e\n")
    words = line.format(file=file).split()
    # The original took the address of the server, and other global flags, after a command.
    arguments = [*words, "--url", server.url, "--timeout", "9"]
    environment = {"FUSEML_TOKEN": canned_api.TOKEN, "FUSEML_CONFIG": str(tmp_path / "config.yaml"), "FUSEML_HOME": str(tmp_path)}
    assert main.run(arguments, environment) == 0
    printed = capsys.readouterr()
    assert (printed.err, printed.out != "") == ("", True)


# The commands of the first design (`fuseml push NAME PATH_TO_APPLICATION_SOURCES` and so on), as they stand there.
FIRST_DESIGN = """\
fuseml create-org NAME
fuseml target NAME
fuseml push NAME PATH_TO_APPLICATION_SOURCES
fuseml delete NAME
fuseml help
fuseml COMMAND --help
fuseml install
fuseml uninstall
"""


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commands_of_the_first_design_work_as_they_were_written(tmp_path: Path) -> None:
    repository, code = tmp_path / "app.git", tmp_path / "PATH_TO_APPLICATION_SOURCES"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", repository], environment={"PATH": os.environ["PATH"]})
    codeset = {"name": "NAME", "project": "NAME", "url": f"file://{repository}"}
    project = {**canned_api.PROJECT, "name": "NAME"}
    serving = {**canned_api.APPLICATION, "name": "NAME-predictor", "project": "NAME", "codeset": "NAME"}
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("POST", "/projects"): Answer(project, 201),
        ("GET", "/projects/NAME"): Answer(project),
        ("POST", "/codesets"): Answer({"codeset": codeset, "username": "u", "password": "p"}, 201),
        ("DELETE", "/codesets/NAME/NAME"): Answer(status=204),
        ("GET", "/runs"): Answer([]),
        ("GET", "/applications"): Answer([canned_api.APPLICATION, serving]),
    }
    with canned_api.serve(routes) as server:
        environment = {
            **variables(tmp_path, server.url),
            "HOME": str(tmp_path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "FUSEML_CONFIG": str(tmp_path / ".config" / "fuseml" / "config.yaml"),
        }

        def run(line: str, **more: str) -> Any:
            words = shlex.split(line.replace("COMMAND", "push"))
            code = None if words[1] in ("install", "uninstall") else 0
            return commands.run([*commands.FUSEML, *words[1:]], {**environment, **more}, cwd=tmp_path, code=code)

        create, target, push, delete, help_, command_help, install, uninstall = FIRST_DESIGN.splitlines()
        assert run(create).stdout == "Project NAME successfully created.\n"
        assert "Project NAME is the current one" in run(target).stdout
        assert re.match(r"Pushed version [0-9a-f]{12} of NAME/NAME\.\n", run(push).stdout)
        registration = next(request for request in server.requests if request.path == "/codesets")
        assert (registration.query["project"], registration.query["name"]) == (["NAME"], ["NAME"])
        # "The path argument is optional. If not specified the current working directory will be used."
        assert commands.run([*commands.FUSEML, "push", "NAME"], environment, cwd=code).stdout.startswith("Nothing to push: NAME/NAME")
        deleted = run(delete)
        assert deleted.stdout == "Codeset NAME successfully deleted.\n"
        assert "Application NAME-predictor still serves a model of it" in deleted.stderr
        assert "Commands:" in run(help_).stdout
        assert run(command_help).stdout == run("fuseml help push").stdout
        # Both need kubectl, which is not there.
        nothing = tmp_path / "nothing"
        nothing.mkdir()
        for line in (install, uninstall):
            ended = run(line, PATH=str(nothing), KUBECONFIG=str(nothing / "none"))
            assert ended.returncode == 1
            assert "kubectl" in ended.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("push -p demo", "missing option '--name'"),
        ("push ./model -p demo", "missing option '--name'"),
        ("push diabetes . -n other -p demo", "both name the codeset"),
    ],
)
def test_a_push_without_one_name_is_wrong_usage(
    words: str, message: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(words.split(), variables(tmp_path, server.url)) == 2
    assert message in capsys.readouterr().err


def test_a_name_that_is_also_a_folder_is_refused_with_both_ways_out(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main.run(["push", "model", "-p", "demo"], variables(tmp_path, server.url)) == 1
    assert (
        one_line(capsys) == "error: 'model' may be the folder or the codeset; write ./model for the folder, or -n model for the codeset\n"
    )


@pytest.mark.parametrize("text", [".", "..", "./model", "a/b", "~/model", "https://git.example.org/model", "model.git", "C:\\\\model", ""])
def test_a_path_or_url_is_no_name(text: str) -> None:
    assert codesets.is_location(text)


def shown_options() -> Iterator[tuple[str, str, str]]:
    """Each command with each short option of its help, and the long option beside it."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, str, str]]:
        context = typer.Context(command, info_name=words)
        for parameter in command.params:
            record = parameter.get_help_record(context) if parameter.opts[0].startswith("-") else None
            names = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", record[0]) if record else []
            longs = [name for name in names if name.startswith("--")]
            yield from ((words, name, longs[0]) for name in names if not name.startswith("--"))
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{words} {name}")

    command = typer.main.get_command(main.app)
    short_options.add_to(command)
    yield from walk(command, "fuseml")


ONE_MEANING = {
    "-c": {"--codeset", "--codeset-name"},
    "-m": {"--message", "--reason", "--comment"},
    "-p": {"--project", "--codeset-project"},
    "-r": {"--resource", "--service-resource"},
    "-s": {"--state", "--status"},
}
"""Long options that mean the same."""


def test_each_short_option_has_one_meaning_in_the_help_of_all_commands() -> None:
    meanings: dict[str, set[str]] = collections.defaultdict(set)
    for _, short, long in shown_options():
        meanings[short].add(long)
    assert len(meanings) > 15
    assert {short: longs for short, longs in meanings.items() if len(longs) > 1} == ONE_MEANING


def test_a_former_short_option_works_and_is_not_shown(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "logs", "--help"], variables(tmp_path, server.url)) == 0
    shown = capsys.readouterr().out
    assert "--follow" in shown
    assert "-f" not in re.findall(r"(?<![\w-])-[a-z]\b", shown)
    assert main.run(["run", "logs", "mlflow-e2e-1", "trainer", "-f"], variables(tmp_path, server.url)) == 0


def test_every_example_uses_only_options_that_the_help_shows() -> None:
    command: Any = typer.main.get_command(main.app)
    root = {name for parameter in command.params for name in parameter.opts}
    wrong: list[str] = []

    def walk(command: Any) -> None:
        shown = {name for parameter in command.params if not parameter.hidden for name in (*parameter.opts, *parameter.secondary_opts)}
        for line in (command.epilog or "").splitlines() if not hasattr(command, "commands") else ():
            if line.startswith("  fuseml "):
                words = shlex.split(line.removesuffix("\\"), comments=False)
                given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
                wrong.extend(f"{line}: {name}" for name in given - shown - root - {"--home"})
        for child in getattr(command, "commands", {}).values():
            walk(child)

    walk(command)
    assert wrong == [
        "  fuseml install --image IMAGE --dry-run: --image",
        "  fuseml upgrade --registry MIRROR: --registry",
    ]


@pytest.mark.parametrize("words", [[], ["run"], ["run", "logs"]])
def test_help_is_that_of_the_command(words: list[str], server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["help", *words], variables(tmp_path, server.url)) == 0
    by_command = capsys.readouterr().out
    assert main.run([*words, "--help"], variables(tmp_path, server.url)) == 0
    assert capsys.readouterr().out == by_command


def test_the_help_of_an_unknown_command_is_wrong_usage(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["help", "run", "lgos"], variables(tmp_path, server.url)) == 2
    assert "fuseml run has no command 'lgos'" in capsys.readouterr().err
