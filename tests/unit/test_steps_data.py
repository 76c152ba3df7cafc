"""Data of a codeset that is not in its checkout is reported before the program starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseml.steps import data, pipeline, sdk

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n"


def test_missing_data_pointers_and_submodules_are_listed(tmp_path: Path) -> None:
    for folder in ("raw", "libs/empty", "libs/full", ".git"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "libs/full/a.py").touch()
    (tmp_path / "raw/rows.csv.dvc").write_text("outs:\n- md5: abc\n  path: rows.csv\n")
    (tmp_path / "raw/there.csv.dvc").write_text("outs:\n- md5: abc\n  path: there.csv\n")
    (tmp_path / "raw/there.csv").write_text("a\n")
    (tmp_path / "weights.bin").write_text(POINTER)
    (tmp_path / ".git/pointer").write_text(POINTER)
    (tmp_path / ".gitmodules").write_text(
        '[submodule "a"]\n\tpath = libs/empty\n\turl = x\n[submodule "b"]\n\tpath = libs/full\n\turl = y\n'
    )
    assert [note.rpartition(": ")[2] for note in data.notes(tmp_path)] == ["raw/rows.csv", "weights.bin", "libs/empty"]


def test_a_complete_checkout_needs_no_note(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    assert data.notes(tmp_path) == []


def test_data_that_the_codeset_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError, match=r"the step input 'data' names 'rows.csv', of which the codeset has no rows\.csv\.dvc"):
        pipeline.pull(tmp_path, "rows.csv", {})


@pytest.mark.parametrize(("name", "text"), [("a.dvc", "outs: [}"), (".gitmodules", "[a\n"), ("a.dvc", "- 1")])
def test_files_that_cannot_be_read_do_not_stop_a_training(name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(text)
    data.fetch(tmp_path)
    assert f"note: missing data cannot be listed: {name}" in capsys.readouterr().out


def test_names_that_cannot_be_split_and_a_broken_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError, match="the step input 'data' cannot be split into names"):
        pipeline.pull(tmp_path, "it's", {})
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config.local").write_text("[core\n")
    with pytest.raises(sdk.StepError, match=r"\.dvc/config\.local: "):
        pipeline.prepare(tmp_path)


# Prints as DVC does: `--quiet` hides errors, and the last line is advice.
DVC = """
import sys
if "--quiet" not in sys.argv and "-q" not in sys.argv:
    print("ERROR: unexpected error - 'getpwuid(): uid not found: 65532'", file=sys.stderr)
print("\\nHaving any troubles? Hit us up, we are always happy to help!", file=sys.stderr)
sys.exit(255)
"""


@pytest.mark.parametrize("wanted", ["rows.csv", pipeline.PULL_ALL])
def test_the_cause_of_a_failed_pull_is_the_error_of_dvc(wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules/dvc").mkdir(parents=True)
    (tmp_path / "modules/dvc/__main__.py").write_text(DVC)
    (tmp_path / "rows.csv.dvc").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with pytest.raises(sdk.StepError, match=r"dvc pull.*: unexpected error - 'getpwuid\(\): uid not found: 65532'"):
        pipeline.pull(tmp_path, wanted, {})
    with pytest.raises(sdk.StepError, match="dvc init --no-scm: unexpected error"):
        pipeline.prepare(tmp_path)
