"""The step contract in the SDK: inputs, outputs, context, one line for a failure; and the name of an application."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.steps import predictor, sdk


def test_an_input_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_APP_NAME", "wine")
    monkeypatch.setenv("FUSEML_EMPTY", "")
    assert sdk.input("app-name") == "wine"
    assert sdk.input("empty", "default") == "default"
    with pytest.raises(sdk.StepError, match="the input 'model' is missing: add it to the workflow step, or set FUSEML_MODEL"):
        sdk.input("model")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("FIFO", "it is not a regular file"),
        ("folder", "Is a directory"),
        ("link outside", "'file' is outside the codeset"),
        ("link to itself", "cannot read the file 'file'"),
        ("huge", "it is larger than 4 MiB"),
        ("not UTF-8", "it is not UTF-8 text"),
    ],
)
def test_a_file_of_another_kind_in_the_codeset_is_refused(tmp_path: Path, kind: str, cause: str) -> None:
    file = tmp_path / "codeset" / "file"
    file.parent.mkdir()
    match kind:
        case "FIFO":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "link outside":
            file.symlink_to("/dev/zero")
        case "link to itself":
            file.symlink_to("file")
        case "huge":
            file.touch()
            os.truncate(file, 1 << 40)
        case _:
            file.write_bytes(b"\377")
    with pytest.raises(sdk.StepError, match=cause):
        sdk.read_file(file.parent, "file")


def test_a_link_within_the_codeset_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"one\r\n")
    (tmp_path / "link").symlink_to("real")
    assert sdk.read_file(tmp_path, "link") == "one\n"


def test_an_output_is_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_ENV_RESULTS", str(tmp_path / "results"))
    sdk.output("model-version", "3")
    sdk.output("model-version", "4")
    assert [(file.name, file.read_text()) for file in (tmp_path / "results").iterdir()] == [("model-version", "4")]


@pytest.mark.parametrize("name", ["", "../model", ".hidden", "a/b"])
def test_an_output_cannot_leave_its_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_ENV_RESULTS", str(tmp_path))
    with pytest.raises(sdk.StepError, match="cannot be the name of an output"):
        sdk.output(name, "x")


def test_the_identity_files_replace_missing_variables_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PROJECT", "CODESET", "RUN", "COMMIT", "STEP", "WORKFLOW_NAME"):
        monkeypatch.delenv(f"FUSEML_ENV_{name}", raising=False)
    (tmp_path / ".fuseml").mkdir()
    (tmp_path / ".fuseml" / "_org").write_text("workspace\n")
    (tmp_path / ".fuseml" / "_project").write_text("mnist\n")
    monkeypatch.setenv("FUSEML_ENV_CODESET", "digits")
    assert sdk.context() == sdk.Context(run="", workflow="", step="", project="workspace", codeset="digits", commit="")


def test_a_failure_is_one_line_and_holds_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise sdk.StepError("no answer from\n  https://ada:secret@mlflow.example/api")

    with pytest.raises(SystemExit) as ended:
        sdk.run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "no answer from https://***@mlflow.example/api\n"


@given(st.lists(st.text(max_size=60), min_size=1, max_size=3))
@example(["team", "x" * 80, "mlflow-e2e"])
@example(["1"])
def test_an_application_name_is_always_a_dns_label(parts: list[str]) -> None:
    name = predictor.application_name(*parts)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)
    assert predictor.application_name(name) == name


def test_an_application_name_is_readable_and_unique() -> None:
    assert predictor.application_name("team", "", "mlflow-e2e") == "team-mlflow-e2e"
    assert predictor.application_name("a_b", "c") != predictor.application_name("a-b", "c")
    long = "y" * 70
    assert predictor.application_name(long, "a") != predictor.application_name(long, "b")
