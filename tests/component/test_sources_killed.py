"""A source repository through 20 random edits with kills in between: the registry equals the files."""

from __future__ import annotations

import collections
import json
import os
import sys
from pathlib import Path

import pytest

from fuseml.domain import events
from fuseml.store import extensions
from tests import commands
from tests.component import killed_sources

EDITS = 20


@pytest.mark.parametrize("seed", [1])
def test_the_registry_equals_the_files_through_random_edits_and_deaths(tmp_path: Path, seed: int) -> None:
    program = [sys.executable, "-m", "tests.component.killed_sources", str(tmp_path), str(seed), str(EDITS)]
    process = commands.run(program, dict(os.environ), cwd=Path(__file__).parents[2])
    edits, deaths = map(int, process.stdout.split())
    assert edits == EDITS
    assert deaths >= EDITS // 2, "most processes died before their end"
    published = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    announced = collections.defaultdict[str, set[int]](set)
    for type, _, data in published:
        if type in (events.ExtensionRegistered.TYPE, events.ExtensionUpdated.TYPE):
            announced[data["extension"]].add(data["revision"])
    with killed_sources.opened(tmp_path).store.read() as session:
        records = extensions.with_resource(session, "s3")
    assert records
    assert [record.id for record in records if record.revision not in announced[record.id]] == [], "each state of a record is an event"
