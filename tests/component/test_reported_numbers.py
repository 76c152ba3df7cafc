"""Numbers that programs and tools report: those that no float can hold, and other data in their place, stop nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml import artifactstores
from fuseml.artifactstores import Connection, records
from fuseml.artifactstores.port import About
from fuseml.cli.demo import scenario
from fuseml.contents import mlflow
from fuseml.domain import errors, events, finite
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import descriptor
from fuseml.domain.documents import strict_json
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton import events as tekton
from fuseml.runtime import catalog
from fuseml.steps import sdk
from fuseml.steps.scoring import evaluation
from fuseml.store import artifacts, database
from tests import event_keys
from tests.component import oci_registry
from tests.component.registered import NOON, Registered, path

HUGE = 10**400
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(HUGE) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rmse", "a/b", ""]), inner, max_size=2),
    max_leaves=4,
)


@given(_json)
def test_a_finite_number_is_a_float_and_everything_else_is_none(value: Any) -> None:
    found = finite.number(value)
    if found is None:
        assert isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1.7976931348623157e308
    else:
        assert math.isfinite(found)
        assert found == float(value)


@given(_json)
def test_metrics_are_the_finite_numbers_among_any_data(value: Any) -> None:
    found = descriptor.metrics_of(value)
    assert all(math.isfinite(number) for number in found.values())
    assert (
        set(found) == {name for name, item in value.items() if name and finite.number(item) is not None}
        if isinstance(value, dict)
        else not found
    )


@pytest.mark.parametrize(
    "text",
    [
        f'{{"big": {HUGE}, "rmse": 0.5}}',
        f'{{"big": -{HUGE}, "rmse": 0.5}}',
        '{"rmse": 0.5, "nested": {"a": 1}, "none": null, "on": true, "text": "1"}',
        '{"rmse": 0.5, "a\\u0000b": 1}',
        '{"rmse": 1e999}',
        '{"rmse": NaN}',
        '{"rmse": -Infinity}',
        '{"rmse": ' + "9" * 1400 + "}",
        '{"\\ud800": 1}',
        "[" * 1400,
        "1e400",
        "\ud800",
    ],
)
def test_no_metrics_of_a_step_block_the_report_of_its_end(store: database.Database, text: str) -> None:
    api = Registered(store)
    outputs = {"model": "models:/wine/1", "metrics": text}
    finished = events.RunStepFinished(run="train-1", workflow="train", project="demo", step="fit", state="succeeded", outputs=outputs)
    headers, body = event_keys.encode(events.event(finished, NOON))
    answer = api.client.post(catalog.EVENTS, headers=headers, data=body)
    if "\ud800" in text:
        # No event can hold half a surrogate pair.
        assert answer.status_code == 400
        return
    assert answer.status_code == 200, answer.text
    shown = api.answer("GET", path("model://demo/wine/1"))
    assert shown.status_code == 200, shown.text
    assert strict_json.parse(shown.data)
    assert json.loads(shown.text)["metrics"] == ({"rmse": 0.5} if "0.5" in text else {})
    with store.read() as session:
        assert artifacts.metrics_of(session, ["model://demo/wine/1"]).get("model://demo/wine/1", {}) == json.loads(shown.text)["metrics"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_no_document_holds_a_number_beyond_every_float(store: database.Database, number: str) -> None:
    api = Registered(store)
    for body in (f'{{"metadata": {{"a": {number}}}', f'{{"metrics": {{"a": {number}}}'):
        text = body[:-1] + '}, "address": "model://demo/wine/1"}'
        answer = api.client.post("/artifacts", data=text, headers={"Authorization": "Bearer ada", "Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
    assert api.search() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, HUGE])
def test_the_record_of_an_artifact_holds_finite_numbers_only(value: float) -> None:
    with pytest.raises(errors.InvalidError, match="'rmse' of an artifact is no finite number"):
        records.encode(records.Record(1, About(metrics={"rmse": value})))


@pytest.mark.parametrize("place", ["size", "metric"])
def test_a_damaged_record_is_refused(place: str) -> None:
    about = {**dataclasses.asdict(About()), "metrics": {"rmse": HUGE if place == "metric" else 1}}
    text = json.dumps({"size": math.inf if place == "size" else 1, "about": about})
    with pytest.raises(errors.PermanentError, match=r"is damaged in the store \(OverflowError\)"):
        records.decode(text.encode(), Address.parse("model://demo/wine/1"))


class Answering(mlflow.Tracking):
    """A tracking server that answers each call with one document."""

    answer: dict[str, Any]

    def call(self, *_: object) -> dict[str, Any]:
        return self.answer


@pytest.mark.parametrize("metric", [{"key": "rmse", "value": HUGE}, {"key": "rmse", "value": "x"}, {"key": "rmse"}, "rmse", None])
def test_an_unreadable_metric_of_mlflow_is_a_permanent_error(monkeypatch: pytest.MonkeyPatch, metric: object) -> None:
    server = Answering("http://127.0.0.1:1")
    server.answer = {"run": {"info": {"status": "FINISHED"}, "data": {"metrics": [metric]}}}
    with pytest.raises(errors.PermanentError, match="describes no run"):
        server.run("r")
    model = {"info": {}, "data": {"metrics": [metric]}}
    version = {"name": "wine", "version": "1", "source": "models:/m-1", "creation_timestamp": 1}
    answers = {"/model-versions/get": {"model_version": version}, "/logged-models/m-1": {"model": model}}
    monkeypatch.setattr(mlflow.Tracking, "call", lambda _self, _method, target, _data: answers[target])
    monkeypatch.setattr(mlflow.Tracking, "file", lambda *_: b"")
    store = artifactstores.connect(Connection("mlflow-tracking", "http://127.0.0.1:1"))
    with pytest.raises(errors.PermanentError, match="describes no logged model"):
        store.describe(Address("model", "demo", "wine", "1"))


@pytest.mark.parametrize("size", ["many", 1.5, -1, 10**30, True])
def test_a_manifest_without_a_size_in_bytes_is_damaged(size: object) -> None:
    with oci_registry.running() as registry:
        whole = registry.put_image("team/demo/trainer", "v1", b"1")
        manifest = registry.manifest("team/demo/trainer", whole)
        layers: Any = manifest["layers"]
        for changed in ({"layers": [{**layers[0], "size": size}]}, {"config": {**dict(manifest["config"]), "size": size}}):  # type: ignore[call-overload]
            digest = registry.put_manifest("team/demo/trainer", "v2", {**manifest, **changed})
            account = {"FUSEML_IMAGE_PREFIX": "team"}
            store = artifactstores.connect(Connection("oci-registry", f"http://{registry.host}", account))
            with pytest.raises(errors.PermanentError, match="its manifest states the size"):
                store.describe(Address("runnable", "demo", "trainer", digest))


@pytest.mark.parametrize(
    ("duration", "shown"),
    [("1h0m30.5s", "timed out after 3630.5 s"), ("9" * 400 + "s", "failed to finish"), ("1.2.3s", "failed to finish"), ("s", "failed to")],
)
def test_a_timeout_of_any_text_has_a_cause(duration: str, shown: str) -> None:
    condition = {"type": "Succeeded", "status": "False", "reason": "TaskRunTimeout", "message": f'failed to finish within "{duration}"'}
    run = {
        "metadata": {"name": "t", "namespace": "n", "labels": {RUN_LABEL: "id", tekton.STEP_LABEL: "fit"}},
        "status": {"conditions": [condition], "startTime": "2026-11-20T10:00:00Z", "completionTime": "2026-11-20T11:00:00Z"},
    }
    data = {"taskRun": run}
    found = tekton.observe(events.Event("dev.tekton.event.taskrun.failed.v1", "/x", "1", "s", NOON, data))
    assert found is not None
    assert shown in (found.cause or "")


def test_a_prediction_beyond_every_float_is_refused() -> None:
    with pytest.raises(errors.PermanentError, match="not one finite number"):
        scenario.number_in([HUGE])


def test_a_label_beyond_every_float_is_a_fault_of_its_row() -> None:
    with pytest.raises(sdk.StepError, match=r"row 1: the label '1000.* is not a finite number"):
        list(evaluation._numbers([HUGE], "the label"))
