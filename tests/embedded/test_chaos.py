"""A small storm in every test run; `task chaos` makes the whole one."""

from __future__ import annotations

import pathlib
import random

from tests.embedded import chaos
from tests.waiting import SCENARIO_PATIENCE


def test_pushes_survive_lost_repeated_and_shuffled_events_and_a_server_that_is_killed(tmp_path: pathlib.Path) -> None:
    chaos.Storm(tmp_path, seed=random.randrange(1_000_000), pushes=40, kills=3, limit=SCENARIO_PATIENCE).prove()
