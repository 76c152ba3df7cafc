"""Dispatchers side by side: each hands over what no other has, whatever list it began with."""

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


def test_a_run_that_another_dispatcher_has_submitted_meanwhile_is_not_submitted_again(tmp_path: pathlib.Path) -> None:
    world = triggering.World(tmp_path)
    for name in ("first", "second", "third"):
        world.workflow(WORKFLOW.format(name=name))
        world.assign(name, "code://p/code")
    world.settle()
    pushed = world.pushed("a" * 40)
    # The first one is on its way twice; of the others, the quicker dispatcher has recorded that it submitted them.
    world.engine.meanwhile = lambda: world.hand("dispatcher", pushed)
    world.settle()
    assert sorted(world.states()) == ["first-1", "second-1", "third-1"]
    assert sorted(world.engine.given) == ["first-1", "first-1", "second-1", "third-1"]
    world.store.close()


def test_a_run_that_was_cancelled_while_another_was_submitted_is_not_submitted(tmp_path: pathlib.Path) -> None:
    world = triggering.World(tmp_path)
    for name in ("first", "second"):
        world.workflow(WORKFLOW.format(name=name))
        world.assign(name, "code://p/code")
    world.settle()
    world.pushed("a" * 40)

    def cancel_the_other() -> None:
        [other] = {"first-1", "second-1"} - set(world.engine.given)
        assert world.functions["runs"].test_client().post(f"/runs/{other}/cancel").status_code == 202
        world.deliver(world.events.pop())

    world.engine.meanwhile = cancel_the_other
    world.settle()
    [submitted] = set(world.engine.given)
    assert sorted(world.states().values()) == ["cancelled", "queued"]
    assert world.states()[submitted] == "queued"
    world.store.close()
