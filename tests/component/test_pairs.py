"""A small storm over two processes of every function; `task pairs` runs a larger one."""

from __future__ import annotations

import pathlib
import random

from tests import postgresql
from tests.waiting import SCENARIO_PATIENCE

from . import storm


def test_two_processes_of_every_function_have_each_effect_once(postgresql_server: postgresql.Server, tmp_path: pathlib.Path) -> None:
    storm.Storm(tmp_path, postgresql_server, seed=random.randrange(1_000_000), pushes=24, kills=6, limit=SCENARIO_PATIENCE).prove()
