"""The difference of two runs: exactly the facts that differ, by kind, and no secret."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fuseml.domain import plans
from fuseml.domain.lineage import comparison
from fuseml.domain.lineage.record import ArtifactRecord, Edge, RunRecord, StepRecord
from fuseml.domain.registry import selector

FIRST, SECOND = "a" * 40, "b" * 40
ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def a_run(name: str = "train-1", **given: Any) -> RunRecord:
    """A run whose parts are `given`: commit, data, alpha, image, version (of a tool), args, metrics, digest, number (of its model)."""
    part = {
        "commit": FIRST,
        "data": "dataset://demo/raw/1",
        "alpha": "1",
        "image": "shell:1",
        "version": "1.0",
        "args": "fast",
        "metrics": '{"r2": 0.5}',
        "digest": ONE,
        "number": "1",
        **given,
    }
    checkout = plans.Checkout(
        name="code", project="demo", codeset="wine", url="http://git/wine", ref="refs/heads/main", commit=part["commit"], path="/code"
    )
    secret = plans.SecretPart(extension="minio", service="store", credentials="default", key="KEY")
    variables = {
        plans.RUN_VARIABLE: plans.text(name),
        plans.COMMIT_VARIABLE: plans.text(part["commit"]),
        "alpha": plans.text(part["alpha"]),
        "data": (plans.OutputPart(step="prepare", output="data"),),
        "KEY": (secret,),
    }
    prepare = plans.StepPlan(name="prepare", image=plans.text("shell:1"), outputs=(plans.Output(name="data"),))
    fit = plans.StepPlan(
        name="fit",
        image=plans.text(part["image"]),
        args=(plans.text(part["args"]),),
        variables=tuple(plans.Variable(name=key, value=value) for key, value in variables.items()),
        checkouts=(checkout,),
    )
    binding = selector.Binding(
        name="store",
        extension_id="minio",
        service_id="store",
        service_resource="s3",
        service_category="",
        product="minio",
        version=part["version"],
        zone="",
        url="http://ada:canary@s3",
        endpoint_type="internal",
    )
    plan = plans.Plan(
        id=name,
        run=name,
        project="demo",
        workflow="train",
        revision=1,
        inputs={"alpha": part["alpha"]},
        steps=(prepare, fit),
        bindings=(plans.StepBinding(step="fit", binding=binding),),
    )
    model = f"model://demo/wine/{part['number']}"
    return RunRecord(
        id=name,
        name=name,
        workflow="train",
        revision=1,
        project="demo",
        state="succeeded",
        created="2026-11-21T12:00:00.000000Z",
        codeset="wine",
        commit=part["commit"],
        plan=plan,
        steps=(
            StepRecord("prepare", "succeeded", outputs={"data": part["data"]}),
            StepRecord("fit", "succeeded", outputs={"model": f"models:/wine/{part['number']}", "metrics": part["metrics"], "note": "x"}),
        ),
        artifacts={model: ArtifactRecord(model, digest=part["digest"], run=name, step="fit")},
        edges=(Edge(part["data"], model, "fit"),),
    )


def differences(a: RunRecord, b: RunRecord) -> list[tuple[str, str, str | None, str | None]]:
    return [(item.kind, item.name, item.a, item.b) for item in comparison.compare(a, b) if not item.equal]


def test_a_run_does_not_differ_from_its_repetition() -> None:
    # The repetition has another name, and its model another version of the same contents.
    assert differences(a_run(), a_run("train-2", number="2")) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"commit": SECOND}, [("code", "demo/wine", FIRST, SECOND)]),
        (
            {"data": "dataset://demo/raw/2"},
            [("data", "dataset://demo/raw", "1", "2"), ("output", "prepare.data", "dataset://demo/raw/1", "dataset://demo/raw/2")],
        ),
        ({"alpha": "2"}, [("parameter", "alpha", "1", "2")]),
        ({"image": "shell:2"}, [("image", "fit", "shell:1", "shell:2")]),
        ({"version": "2.0"}, [("tool", "fit.store.version", "1.0", "2.0")]),
        ({"args": "slow"}, [("step", "fit.args", "fast", "slow")]),
        ({"metrics": '{"r2": 0.75, "rmse": 3}'}, [("metric", "fit.r2", "0.5", "0.75"), ("metric", "fit.rmse", None, "3")]),
        ({"metrics": "none"}, [("metric", "fit.r2", "0.5", None), ("output", "fit.metrics", None, "none")]),
        ({"digest": TWO}, [("artifact", "fit: model://demo/wine", ONE, TWO)]),
        ({"digest": None}, [("artifact", "fit: model://demo/wine", ONE, "version 2, without a digest")]),
    ],
)
def test_each_difference_is_named_once(change: dict[str, Any], expected: list[tuple[str, str, str | None, str | None]]) -> None:
    assert differences(a_run(), a_run("train-2", number="2", **change)) == expected


def test_a_reused_step_gives_the_same_texts() -> None:
    a = a_run()
    assert a.plan is not None
    prepare, fit = a.plan.steps
    variables = tuple(
        item.model_copy(update={"value": plans.text("dataset://demo/raw/1")}) if item.name == "data" else item for item in fit.variables
    )
    reused = plans.ReusedStep(name="prepare", run="train-0", image=prepare.image, outputs={"data": "dataset://demo/raw/1"})
    b = dataclasses.replace(
        a, plan=a.plan.model_copy(update={"steps": (fit.model_copy(update={"variables": variables}),), "reused": (reused,)})
    )
    assert differences(a, b) == []


def test_secrets_appear_by_name_and_accounts_not_at_all() -> None:
    found = comparison.compare(a_run(), a_run())
    assert ("parameter", "fit.KEY", "<secret minio/store/default/KEY>") in [(item.kind, item.name, item.a) for item in found]
    assert "canary" not in str(found)


def test_an_artifact_that_an_earlier_run_had_recorded_counts_as_made() -> None:
    a, b = a_run(), a_run("train-2")
    # Its address follows from its contents, so the first run keeps the record.
    kept = {address: dataclasses.replace(item, run="train-1") for address, item in b.artifacts.items()}
    assert differences(a, dataclasses.replace(b, artifacts=kept)) == []


def test_a_dataset_of_other_contents_at_the_same_address_differs() -> None:
    scores = "dataset://demo/scores/1"

    def scored(name: str, digest: str) -> RunRecord:
        step = StepRecord("fit", "succeeded", outputs={"scores": scores, "digest": digest})
        kept = {scores: ArtifactRecord(scores, digest=ONE, run="train-1", step="fit")}
        return dataclasses.replace(a_run(name), steps=(step,), artifacts=kept, edges=(Edge("dataset://demo/raw/1", scores, "fit"),))

    assert ("artifact", "fit: dataset://demo/scores", ONE, TWO) in differences(scored("train-1", ONE), scored("train-2", TWO))
    assert differences(scored("train-1", ONE), scored("train-2", ONE)) == []


def test_a_run_without_a_plan_is_compared_by_its_record() -> None:
    bare = dataclasses.replace(a_run(), plan=None, steps=(), artifacts={}, edges=(), state="failed")
    kinds = {kind for kind, *_ in differences(a_run(), bare)}
    assert {"parameter", "tool", "image", "result"} <= kinds and "code" not in kinds
