"""Parts of the tools that train: copies of codesets, printed outputs, quantities, merged options, the log of pods."""

from __future__ import annotations

import base64
import io
import itertools
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.workloads import code, following, merging, quantities, starting
from fuseml.workloads.kubernetes import job as kubernetes_job
from fuseml.workloads.kubernetes import pods
from fuseml.workloads.kubernetes.api import Api
from fuseml.workloads.port import Job, Position, Resources
from tests import commands
from tests.contract import pod_security


def test_a_copy_of_a_codeset_is_without_its_history_and_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("token")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.sh").write_text("echo")
    (tmp_path / "a" / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("a/run.sh")
    found = list(code.files(tmp_path))
    assert [(file.path, file.is_executable) for file in found] == [("link", True), ("a/run.sh", True)]
    first = code.archive(found)
    os.utime(tmp_path / "a" / "run.sh", (1, 1))
    assert code.archive(list(code.files(tmp_path))) == first
    assert zipfile.ZipFile(io.BytesIO(first)).read("a/run.sh") == b"echo"


def test_a_link_that_leads_out_of_the_codeset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "code" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(sdk.StepError, match="the link 'link' leads out of the codeset"):
        list(code.files(tmp_path / "code"))
    (tmp_path / "code" / "link").unlink()
    (tmp_path / "code" / "data").mkdir()
    (tmp_path / "code" / "folder").symlink_to("data")
    with pytest.raises(sdk.StepError, match="the link 'folder' is one of a folder"):
        list(code.files(tmp_path / "code"))


def test_a_codeset_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(code.MOST + 1)
    with pytest.raises(sdk.StepError, match="more than 100 MiB"):
        list(code.files(tmp_path))


@given(name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True), value=st.text(max_size=200))
def test_a_printed_output_is_the_text_that_was_written(name: str, value: str) -> None:
    line = f"{starting.MARK} {name} {base64.b64encode(value.encode()).decode()}"
    assert starting.output(line) == starting.output(line + "\r") == (name, value)


@given(st.text(max_size=100))
def test_other_lines_are_no_outputs(line: str) -> None:
    assert starting.output(line) is None
    assert starting.output(f" {starting.MARK} a {line}") is None


def test_the_start_of_a_command_prints_its_outputs_only_after_a_success() -> None:
    def run(command: str, code: int = 0, **variables: str) -> str:
        return commands.run(starting.command(command), {"PATH": os.environ["PATH"], **variables}, code=code).stdout

    writing = 'printf "%s" x > "$FUSEML_ENV_RESULTS/a"; printf "no end"'
    assert run(writing) == f"no end\n{starting.MARK} a eA==\n"
    assert run(writing, JOB_COMPLETION_INDEX="1") == "no end"
    assert run(f"{writing}; exit 4", code=4) == "no end"


_LINES = st.one_of(
    st.text(alphabet=":fusem-l o\r", max_size=12), st.sampled_from([f"{starting.MARK} a eA==", f"{starting.MARK} b", "", "::f"])
)


@given(lines=st.lists(_LINES, max_size=6), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_a_log_without_its_outputs_is_the_same_in_whatever_parts_it_comes(lines: list[str], cuts: list[int]) -> None:
    text, written = "\n".join(lines), io.StringIO()
    parts = following.Lines(written)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(text)]):
        parts.add(text[start:end])
        held = text[:end].rpartition("\n")[2]
        assert written.getvalue().endswith(held) or starting.MARK.startswith(held) or held.startswith(starting.MARK)
    parts.end()
    shown = [line for line in lines if line.rstrip("\r") != f"{starting.MARK} a eA=="]
    assert written.getvalue().rstrip("\n") == "\n".join(shown).rstrip("\n")
    assert parts.outputs == ({"a": "x"} if len(shown) < len(lines) else {})


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("2", 2.0), ("1.5", 1.5), ("4Gi", 4 * 1024**3), ("1k", 1000.0)])
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    assert quantities.number("cpu", text) == number


@pytest.mark.parametrize("text", ["", "-1", "1x", "Gi", "1e3"])
def test_another_text_is_no_quantity(text: str) -> None:
    with pytest.raises(sdk.StepError, match="the input 'cpu' is not a quantity"):
        quantities.number("cpu", text)


_TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8)
_OBJECTS = st.dictionaries(st.sampled_from("abc"), _TREES)


@given(document=_OBJECTS, options=_OBJECTS)
def test_options_win_and_keep_what_they_do_not_name(document: dict[str, Any], options: dict[str, Any]) -> None:
    result = merging.merged(document, options)
    assert merging.merged(result, options) == result
    assert merging.merged(document, {}) == document
    assert {key: value for key, value in document.items() if key not in options}.items() <= result.items()


def test_the_pod_of_a_job_is_restricted() -> None:
    document = kubernetes_job._document(Job("a-1", "true", image="trainer:1", secrets={"KEY": "x"}, resources=Resources(memory="1Gi")))
    assert pod_security.violations(document["spec"]["template"]["spec"]) == []


class Logged(Api):
    """The log of one container, as the API gives it: from a full second on, and as far as `part` bytes hold it."""

    def __init__(self, lines: list[tuple[str, str]], part: int) -> None:
        super().__init__("http://127.0.0.1:1", {})
        self.lines, self.part = lines, part

    def log(self, pod: str, container: str, since: str) -> bytes | None:
        del pod, container
        return "".join(f"{stamp} {text}\n" for stamp, text in self.lines if stamp[:19] >= since[:19]).encode()[: self.part]


POD = {
    "metadata": {"name": "a", "labels": {}},
    "spec": {"containers": [{"name": "c"}]},
    "status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]},
}


def read_in_parts(lines: list[tuple[str, str]], cuts: list[int], part: int = 10_000) -> str:
    """The log, read while it has as many lines as each of the cuts, and when it is whole; an answer has at most `part` bytes."""
    read = ""
    position: Position = {}
    for cut in [*sorted(cuts), len(lines)]:
        text, position = pods.logs(Logged(lines[:cut], part), [POD], position, part)
        read += text
    return read


@given(
    gaps=st.lists(st.sampled_from([0, 1, 10_000, 400_000_000, 1_000_000_000]), max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    is_short=st.booleans(),
)
def test_parts_of_a_log_are_the_whole_whatever_the_times_of_its_lines(gaps: list[int], cuts: list[int], is_short: bool) -> None:
    at, lines = 0, list[tuple[str, str]]()
    for number, gap in enumerate(gaps):
        at += gap
        stamp = f"2026-11-30T09:00:{at // 10**9:02d}.{at % 10**9:09d}"
        # Container runtimes leave out the zeros at the end.
        lines.append((f"{stamp.rstrip('0').rstrip('.') if is_short else stamp}Z", f"line {number}"))
    assert read_in_parts(lines, cuts) == "".join(f"{text}\n" for _, text in lines)


@pytest.mark.parametrize("cuts", [[], [1], [3], [1, 4]])
def test_a_line_of_the_other_output_that_is_stored_late_is_not_lost(cuts: list[int]) -> None:
    """A runtime stores the two outputs of a program side by side: times need not rise from line to line."""
    stamps = ("01.2", "02.000000002", "02.000000001", "02.000000003", "03")
    lines = [(f"2026-11-30T09:00:{stamp}Z", f"line {number}") for number, stamp in enumerate(stamps)]
    assert read_in_parts(lines, cuts) == "".join(f"{text}\n" for _, text in lines)


@pytest.mark.parametrize("cuts", [[], [3]])
def test_a_log_that_is_larger_than_an_answer_is_read_to_its_end(cuts: list[int]) -> None:
    lines = [(f"2026-11-30T09:00:{number:02d}.5Z", f"line {number}") for number in range(20)]
    assert read_in_parts(lines, cuts, part=100) == "".join(f"{text}\n" for _, text in lines)
