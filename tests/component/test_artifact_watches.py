"""Inputs of runnables that watch an artifact: only what they watch starts their workflow, and reasons are recorded."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from fuseml.domain.runnables.descriptor import Runnable
from fuseml.usecases import runnables
from tests.component import triggering
from tests.component.test_artifact_filters import reasons, register, started

GOOD, BAD = {"metrics": {"rmse": 0.5}}, {"metrics": {"rmse": 0.9}}


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    yield system
    system.store.close()


def watching(world: triggering.World, kind: str, version: str = "1.0.0", **watch: Any) -> None:
    """A runnable `taker` of the project whose input `it` watches."""
    item = {"name": "it", "type": kind, "watch": watch}
    document = {"name": "taker", "version": version, "kind": "custom", "image": "i:1", "inputs": [item]}
    with world.store.write() as session:
        runnables.register(session, "p", Runnable.model_validate(document), by="ada")


def workflow(kind: str, *steps: str) -> str:
    taking = "{name: %s, %s, inputs: [{name: it, value: '{{ inputs.it }}'}]}"
    listed = "".join(f"\n  - {taking % (f's{number}', step)}" for number, step in enumerate(steps))
    return f"name: serve\ninputs: [{{name: it, type: {kind}}}]\non: {{patterns: ['{kind}://p/*']}}\nsteps:{listed}\n"


def test_a_model_starts_the_runnable_that_watches_its_metrics_only_if_they_are_good(world: triggering.World) -> None:
    watching(world, "model", metrics="rmse < 0.8")
    world.workflow(workflow("model", "runnable: taker"))
    register(world, "model://p/wine/1", **BAD)
    assert started(world) == []
    assert reasons(world) == ["model://p/wine/1 does not pass model://p/*?metrics.rmse<0.8 (metrics.rmse<0.8: its rmse is 0.9)"]
    register(world, "model://p/wine/2", **GOOD)
    assert started(world) == ["model://p/wine/2"]
    # Metrics that are reported late complete the model.
    register(world, "model://p/wine/3")
    assert started(world) == ["model://p/wine/2"]
    register(world, "model://p/wine/3", **GOOD)
    assert started(world) == ["model://p/wine/3", "model://p/wine/2"]
    # The newest version of the runnable decides.
    watching(world, "model", "1.1.0", metrics="rmse < 1")
    register(world, "model://p/wine/4", **BAD)
    assert started(world)[0] == "model://p/wine/4"


def test_one_step_that_takes_every_model_is_enough(world: triggering.World) -> None:
    watching(world, "model", metrics="rmse < 0.8")
    world.workflow(workflow("model", "runnable: taker", "image: 'i:1'"))
    register(world, "model://p/wine/1", **BAD)
    assert started(world) == ["model://p/wine/1"]


def test_a_dataset_starts_the_runnable_that_watches_its_fields_only_if_one_changed(world: triggering.World) -> None:
    watching(world, "dataset", fields=["schema", "format"])
    world.workflow(workflow("dataset", "runnable: taker"))
    for version, schema, format in ((1, "a,b", "csv"), (2, "a,b", "csv"), (3, "a,c", "csv"), (4, "a,c", "parquet"), (5, "a,c", "parquet")):
        register(world, f"dataset://p/rows/{version}", format=format, metadata={"schema": schema, "rows": str(version)})
    assert started(world) == [f"dataset://p/rows/{version}" for version in (4, 3, 1)]
    assert reasons(world) == [
        "dataset://p/rows/2 is no change: its format, schema are as before in dataset://p/rows/1",
        "dataset://p/rows/5 is no change: its format, schema are as before in dataset://p/rows/4",
    ]
    # Another name has no version before.
    register(world, "dataset://p/others/1", format="csv", metadata={"schema": "a,b"})
    assert started(world)[0] == "dataset://p/others/1"


def test_a_workflow_whose_runnable_is_missing_starts_and_reports_it(world: triggering.World) -> None:
    world.workflow(workflow("model", "runnable: taker"))
    register(world, "model://p/wine/1", **BAD)
    [run] = world.get("/runs?workflow=serve")
    assert (run["state"], "no runnable 'taker'" in run["cause"]) == ("failed", True)
