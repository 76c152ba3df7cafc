"""Explanations by the model server's application: they add up to the prediction, and other models are refused with the kinds that are explained."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from fuseml.steps import explanation, loaded_model, model_server
from fuseml.steps.inference import service

from . import scoring

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> scoring.Models:
    return scoring.save(tmp_path_factory.mktemp("models"))


def post(model: Path, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and body of the model server's response, without a socket."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "scheme": "http",
    }
    application = model_server.create_app(service.Service("wine", "1", str(model), loaded_model.load(str(model), "wine").model))

    async def call() -> None:
        await application({**scope, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send)

    asyncio.run(call())
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def request(rows: list[tuple[float, int]]) -> dict[str, Any]:
    def tensor(name: str, datatype: str, data: list[float]) -> dict[str, Any]:
        return {"name": name, "shape": [len(rows)], "datatype": datatype, "data": data}

    return {"id": "7", "inputs": [tensor("a", "FP64", [row[0] for row in rows]), tensor("b", "INT64", [row[1] for row in rows])]}


def tensors(answer: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: numpy.asarray(item["data"]).reshape(item["shape"]) for item in answer["outputs"]}


def test_the_contributions_of_a_linear_model_add_up_to_its_prediction(models: scoring.Models) -> None:
    status, answer = post(models.regression, "/v2/models/wine/versions/1/explain", json.dumps(request(scoring.ROWS[:5])).encode())
    assert status == 200
    assert (answer["id"], answer["model_name"], answer["parameters"]) == ("7", "wine", {"method": "coefficient times value"})
    found = tensors(answer)
    assert found["features"].tolist() == ["a", "b"]
    assert found["contributions"] == pytest.approx(numpy.asarray([[2 * a, 3 * b] for a, b in scoring.ROWS[:5]]))
    assert found["base"] == pytest.approx([1.0] * 5)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (
            {"model": "forest"},
            501,
            "(flavours python_function, sklearn, a RandomForestRegressor) cannot be explained; explained are linear",
        ),
        ({"name": "beer"}, 404, "no model 'beer'"),
        ({"body": b"{"}, 400, "the body is not JSON"),
        ({"body": b'{"inputs": []}'}, 400, 'a list of tensors under "inputs"'),
    ],
)
def test_what_is_not_explained_is_refused(change: dict[str, Any], status: int, message: str, models: scoring.Models) -> None:
    body = change.get("body", json.dumps(request(scoring.ROWS[:2])).encode())
    code, answer = post(getattr(models, change.get("model", "regression")), f"/v2/models/{change.get('name', 'wine')}/explain", body)
    assert code == status
    assert message in answer["error"]


class Loaded:
    """A loaded model as `mlflow.pyfunc` gives it."""

    def __init__(self, raw: Any, *flavors: str) -> None:
        self.metadata, self._raw = self, raw
        self.flavors: dict[str, object] = dict.fromkeys(flavors)

    def get_raw_model(self) -> Any:
        return self._raw

    def predict(self, data: Any) -> Any:
        return self._raw.predict(data)


def frame() -> Any:
    import pandas

    return pandas.DataFrame(scoring.ROWS, columns=["a", "b"])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_pipeline_is_explained_by_the_features_of_its_last_step(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    rows = frame()
    labels = numpy.minimum((rows["a"] // 2).astype(int), classes - 1)
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), LogisticRegression()).fit(rows, labels)
    found = explanation.explain(Loaded(model, "sklearn"), rows)
    assert list(found.features) == ["a", "b", "a^2", "a b", "b^2"]
    assert found.base is not None
    assert found.contributions.shape == ((40, 5) if classes == 2 else (40, 3, 5))
    assert found.contributions.sum(axis=-1) + found.base == pytest.approx(model.decision_function(rows))


def test_unnamed_features_are_numbered() -> None:
    from sklearn.linear_model import Ridge

    found = explanation.explain(Loaded(Ridge().fit(frame().to_numpy(), range(40)), "sklearn"), frame().to_numpy())
    assert list(found.features) == ["feature-0", "feature-1"]


def test_a_logged_explainer_gives_its_own_values() -> None:
    class Explainer:
        def predict(self, data: Any) -> Any:
            return data.to_numpy() * 2.0

    found = explanation.explain(Loaded(Explainer(), "python_function", "shap"), frame())
    assert (found.method, found.base, found.contributions.shape) == ("shap explainer", None, (40, 2))
    assert [item["name"] for item in found.tensors()] == ["features", "contributions"]


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_the_contributions_of_trees_add_up_to_the_raw_output(library: str, classes: int) -> None:
    module = pytest.importorskip(library, reason=f"needs {library}")
    rows = frame()
    labels = numpy.minimum((rows["a"] // 3).astype(int), classes - 1) if classes else rows["a"] * 2
    names = {"xgboost": ("XGBRegressor", "XGBClassifier"), "lightgbm": ("LGBMRegressor", "LGBMClassifier")}[library]
    options = {"xgboost": {}, "lightgbm": {"verbose": -1, "min_child_samples": 2}}[library]
    model = getattr(module, names[bool(classes)])(n_estimators=5, **options).fit(rows, labels)
    found = explanation.explain(Loaded(model, library), rows)
    assert list(found.features) == ["a", "b"]
    assert found.base is not None
    raw = model.predict(rows, output_margin=True) if library == "xgboost" else model.booster_.predict(rows, raw_score=True)
    assert found.contributions.sum(axis=-1) + found.base == pytest.approx(raw, rel=1e-4, abs=1e-4)
