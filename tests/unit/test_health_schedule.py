"""When the next health check of a record is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import health

INTERVALS = st.floats(0.001, 86_400)
DRAWS = st.floats(0, 1)


@given(INTERVALS, st.integers(0, 10_000), DRAWS)
def test_a_pause_is_between_one_and_four_intervals_and_a_tenth(interval: float, failures: int, draw: float) -> None:
    assert 0.9 * interval <= health.pause(interval, failures, draw) * 1.000001
    assert health.pause(interval, failures, draw) <= 4.4 * interval * 1.000001


@given(INTERVALS, st.integers(0, 100), DRAWS)
def test_a_failure_never_shortens_the_pause(interval: float, failures: int, draw: float) -> None:
    assert health.pause(interval, failures, draw) <= health.pause(interval, failures + 1, draw)


@given(INTERVALS, DRAWS)
def test_the_first_failure_leaves_the_interval_as_it_is(interval: float, draw: float) -> None:
    assert health.pause(interval, 0, draw) == health.pause(interval, 1, draw)
