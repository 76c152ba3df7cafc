"""The log of a step: written by its supervisor, masked and bounded, and read in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.engines import local
from fuseml.engines.local import step_log
from tests.contract import engines
from tests.waiting import wait_until

SECRETS = ["canary-4711-abc", "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----"]


def log_of(folder: Path, script: str, secrets: Sequence[str] = SECRETS) -> str:
    """The log of a step that runs the script."""
    plan = engines.make_plan(engines.shell("s", script))
    with engines.local_engine(folder, masked=secrets) as under_test:
        under_test.run(plan)
        return under_test.log(plan, "s")


def test_secrets_are_masked(tmp_path: Path) -> None:
    script = "echo one canary-4711-abc; echo MIIabcdef >&2; printf canary-47; sleep 0.1; echo 11-abc; printf canary-4711-ab"
    assert log_of(tmp_path, script) == "one <hidden>\n<hidden>\n<hidden>\ncanary-4711-ab"


def test_the_file_never_contains_a_secret(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("s", "while echo canary-4711-abc; do sleep 0.01; done"))
    log = tmp_path / "runs" / plan.id / "steps" / "s" / "log"
    with engines.local_engine(tmp_path, masked=SECRETS) as under_test:
        under_test.engine.submit(plan, {})
        wait_until(lambda: log.exists() and "<hidden>" in log.read_text(), "the first line")
        assert set(log.read_text().splitlines()) == {"<hidden>"}
        under_test.engine.cancel(plan.id, "done")
        under_test.inbox.finished(plan.id)
    assert "canary" not in log.read_text()


def test_a_large_output_and_many_secrets_are_supported(tmp_path: Path) -> None:
    secrets = [f"secret-{number:06}-{'x' * 100}" for number in range(2_000)]
    lines = log_of(tmp_path, "seq 100000; echo " + secrets[-1], secrets).splitlines()
    assert (len(lines), lines[-2:]) == (100_001, ["100000", "<hidden>"])


def test_a_step_that_prints_too_much_ends_and_is_not_retried(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("s", "yes", retries=3))
    with engines.local_engine(tmp_path, limits=local.StepLimits(log=100_000)) as under_test:
        result = under_test.run(plan)
        log = under_test.log(plan, "s")
    cause = "it printed more than 97.66 KiB; the server's setting FUSEML_STEP_LOG_LIMIT has the limit"
    assert (result.steps["s"].state, result.steps["s"].attempts, result.steps["s"].cause) == ("failed", 1, cause)
    assert log == "y\n" * 50_000 + f"fuseml: {cause}\n"


def test_the_attempts_of_a_step_share_the_limit_of_its_log(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("s", "yes | head -c 60000; exit 3", retries=5))
    with engines.local_engine(tmp_path, limits=local.StepLimits(log=100_000)) as under_test:
        assert under_test.run(plan).steps["s"].attempts == 2
        assert len(under_test.log(plan, "s")) < 101_000


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 9))
def test_a_log_can_be_read_in_chunks(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    log = tmp_path_factory.getbasetemp() / "log-in-chunks"
    log.write_text(text, newline="")
    collected, at_end = b"", False
    while not at_end:
        data, at_end = step_log.read(log, len(collected), limit)
        assert len(data) <= limit
        collected += data
    assert collected == text.encode()


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert step_log.read(tmp_path / "log", 0, 10) == (b"", True)
