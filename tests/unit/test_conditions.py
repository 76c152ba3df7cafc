"""Lasting faults in the log: a warning when one begins and when it ends."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml.runtime.telemetry.conditions import Conditions

LOG = logging.getLogger("fuseml.test-conditions")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=st.lists(st.tuples(st.sampled_from("ab"), st.booleans())))
def test_the_terminal_gets_a_line_for_each_change_of_a_subject_and_the_log_file_every_look(
    seen: list[tuple[str, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    conditions, state, changes = Conditions(), {"a": True, "b": True}, list[tuple[str, bool]]()
    caplog.clear()
    with caplog.at_level(logging.INFO, LOG.name):
        for number, (subject, well) in enumerate(seen):
            if well:
                conditions.well(LOG, subject)
            else:
                # Causes with numbers and addresses are no changes.
                assert conditions.fault(LOG, subject, f"cause {number}") is state[subject]
            if state[subject] != well:
                changes.append((subject, well))
            state[subject] = well
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(line[0], line.endswith("works again")) for line in lines] == changes
    assert sum("cause" in record.getMessage() for record in caplog.records) == sum(not well for _, well in seen)


def test_the_number_of_known_faults_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    conditions = Conditions()
    with caplog.at_level(logging.CRITICAL):
        for number in range(20_000):
            conditions.fault(LOG, str(number), "gone")
        assert conditions.fault(LOG, "0", "gone"), "the oldest is forgotten"
        assert not conditions.fault(LOG, "19999", "gone")
