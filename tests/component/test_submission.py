"""Concurrent dispatchers: each submits only the runs that no other has submitted, whatever list it began with."""

from __future__ import annotations

import pathlib

from tests.component import triggering

WORKFLOW = """
name: {name}
inputs: [{{name: code, type: codeset}}]
steps:
  - name: work
    image: shell:1
    inputs: [{{codeset: {{name: code}}}}]
"""


def test_a_run_that_another_dispatcher_has_submitted_is_not_submitted_again(tmp_path: pathlib.Path) -> None:
    world = triggering.World(tmp_path)
    for name in ("first", "second", "third"):
        world.workflow(WORKFLOW.format(name=name))
        world.assign(name, "code://p/code")
    world.settle()
    event = world.push("a" * 40)
    # The first run is submitted twice at the same time; the other runs are recorded as submitted by the faster dispatcher.
    world.engine.meanwhile = lambda: world.deliver_to("dispatcher", event)
    world.settle()
    assert sorted(world.states()) == ["first-1", "second-1", "third-1"]
    assert sorted(world.engine.submissions) == ["first-1", "first-1", "second-1", "third-1"]
    world.store.close()


def test_a_run_that_is_cancelled_during_the_submission_of_another_is_not_submitted(tmp_path: pathlib.Path) -> None:
    world = triggering.World(tmp_path)
    for name in ("first", "second"):
        world.workflow(WORKFLOW.format(name=name))
        world.assign(name, "code://p/code")
    world.settle()
    world.push("a" * 40)

    def cancel_the_other() -> None:
        [other] = {"first-1", "second-1"} - set(world.engine.submissions)
        assert world.functions["runs"].test_client().post(f"/runs/{other}/cancel").status_code == 202
        world.deliver(world.events.pop())

    world.engine.meanwhile = cancel_the_other
    world.settle()
    [submitted] = set(world.engine.submissions)
    assert sorted(world.states().values()) == ["cancelled", "queued"]
    assert world.states()[submitted] == "queued"
    world.store.close()
