"""A small campaign of `task attack` against its own server, as CI runs it."""

from __future__ import annotations

import json
import sys

from tests import commands
from tests.attack import campaign
from tests.waiting import SCENARIO_PATIENCE


def test_a_server_withstands_every_attack() -> None:
    arguments = ["--quick", "--cases", "10", "--seed", "1", "-o", "json"]
    ended = commands.run([sys.executable, "-m", "tests.attack", *arguments], code=None, patience=SCENARIO_PATIENCE)
    report = json.loads(ended.stdout)
    assert [f"{result['attack']}: {result['evidence']}" for result in report["results"] if result["result"] != "defended"] == []
    quick = [attack.name for attacks in campaign.BORDERS.values() for attack in attacks if not attack.slow]
    assert ([result["attack"] for result in report["results"]], ended.returncode) == (quick, 0)
