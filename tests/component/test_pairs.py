"""A small storm over two processes of every function in every test run; `task pairs` makes a larger one."""

from __future__ import annotations

import pathlib
import random

import pytest

from tests import postgresql

from . import storm


@pytest.mark.timeout(420)
def test_two_processes_of_every_function_do_everything_and_nothing_twice(
    postgresql_server: postgresql.Server, tmp_path: pathlib.Path
) -> None:
    storm.Storm(tmp_path, postgresql_server, seed=random.randrange(1_000_000), pushes=24, kills=6, limit=400).prove()
