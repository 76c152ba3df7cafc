"""Explanations by the model server's application: they add up to the prediction, and other models are refused with the kinds that are explained."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest

from fuseml.steps import explanation, loaded_model, model_server
from fuseml.steps.inference import nested, service
from tests.waiting import PATIENCE

from . import pyfunc_models, scoring

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


REGRESSIONS = ["LinearRegression", "Ridge", "SGDRegressor", "BayesianRidge", "ARDRegression", "LinearSVR"]
ROBUST = ["HuberRegressor", "TheilSenRegressor"]
CLASSIFIERS = ["LogisticRegression", "RidgeClassifier", "SGDClassifier", "Perceptron", "LinearSVC"]
OTHERS = ["MultiTaskLasso", "PoissonRegressor", "sparse"]


@pytest.mark.filterwarnings("ignore")  # of models that do not converge on so few rows
@pytest.mark.parametrize("name", [*REGRESSIONS, *ROBUST, *CLASSIFIERS, *OTHERS])
def test_base_and_contributions_are_the_raw_output_of_every_linear_model(name: str) -> None:
    from sklearn import linear_model, svm

    rows, amounts = frame(), frame()["a"] * 2 + frame()["b"]
    targets = {name: numpy.minimum((rows["a"] // 4).astype(int), 2) for name in [*CLASSIFIERS, "sparse"]}
    targets["MultiTaskLasso"] = numpy.stack([amounts, -amounts], axis=1)
    kind = linear_model.SGDClassifier if name == "sparse" else getattr(svm if "LinearSV" in name else linear_model, name)
    model = kind().fit(rows, targets.get(name, amounts))
    if name == "sparse":
        model.sparsify()
    raw = numpy.log(model.predict(rows)) if name == "PoissonRegressor" else getattr(model, "decision_function", model.predict)(rows)
    found = explanation.explain(Loaded(model, "sklearn"), rows)
    assert found.base is not None
    assert found.contributions.sum(axis=-1) + found.base == pytest.approx(raw)


@pytest.mark.parametrize("name", ["SVC", "NuSVC", "PLSRegression", "OneClassSVM"])
def test_coefficients_of_another_sense_are_not_explained(name: str) -> None:
    from sklearn import cross_decomposition, svm

    rows, classes = frame(), numpy.minimum((frame()["a"] // 4).astype(int), 2)
    kinds: dict[str, Any] = {
        "SVC": svm.SVC(kernel="linear"),
        "NuSVC": svm.NuSVC(kernel="linear", nu=0.1),
        "PLSRegression": cross_decomposition.PLSRegression(n_components=1),
        "OneClassSVM": svm.OneClassSVM(kernel="linear"),
    }
    model = kinds[name].fit(rows, classes)
    assert hasattr(model, "coef_")
    with pytest.raises(explanation.UnsupportedError, match=f"a {name}\\) cannot be explained; explained are linear models of sklearn"):
        explanation.explain(Loaded(model, "sklearn"), rows)


def test_an_exception_of_the_model_is_no_fault_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    def predict(data: Any) -> Any:
        raise ArithmeticError("below\nzero")

    loaded = pyfunc_models.model(predict)
    loaded.metadata.flavors["shap"] = {}
    server = pyfunc_models.Server(loaded)
    answer = pyfunc_models.run(server.call("POST", "/v2/models/m/explain", json.dumps(request(scoring.ROWS[:2])).encode()))
    assert answer.status == 400
    assert answer.document["error"].startswith("the model failed: ArithmeticError: below zero; the model has no signature: send one tensor")
    assert "Traceback" in capsys.readouterr().err


def test_input_that_a_linear_model_does_not_take_is_not_explained() -> None:
    from sklearn.linear_model import Ridge

    rows = frame()
    loaded = pyfunc_models.model(lambda data: data, raw=Ridge().fit(rows, rows["a"]))
    loaded.metadata.flavors["sklearn"] = {}
    server = pyfunc_models.Server(loaded)
    good = request(scoring.ROWS[:2])
    a, b = good["inputs"]
    for inputs, problem in (
        ([b, a], "should match those"),
        ([a, {**b, "name": "c"}], "should match those"),
        ([{**a, "data": [None, 1]}, b], "contains NaN"),
    ):
        answer = pyfunc_models.run(server.call("POST", "/v2/models/m/explain", json.dumps({"inputs": inputs}).encode()))
        assert answer.status == 400
        assert problem in answer.document["error"]
    with pytest.raises(ValueError, match="expecting 2 features"):
        explanation.explain(Loaded(Ridge().fit(rows.to_numpy(), rows["a"]), "sklearn"), rows.to_numpy()[:, :1])
    answer = pyfunc_models.run(server.call("POST", "/v2/models/m/explain", json.dumps({**good, "id": "\ud800"}).encode()))
    assert (answer.status, answer.document["id"]) == (200, "\ud800")


def test_an_explanation_has_a_bounded_number_of_contributions(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    monkeypatch.setattr(explanation, "MOST_NUMBERS", 4 * 3 * 2**10)
    texts = pandas.Series(["red wine", "white wine", "green tea"] * 4)
    model = make_pipeline(HashingVectorizer(n_features=2**10), SGDClassifier()).fit(texts, ["a", "b", "c"] * 4)
    found = explanation.explain(Loaded(model, "sklearn"), texts[:4])
    assert found.contributions.shape == (4, 3, 2**10)
    loaded = pyfunc_models.model(lambda data: data, raw=model)
    loaded.metadata.flavors["sklearn"] = {}
    item = {"name": "text", "datatype": "BYTES", "shape": [5], "data": ["wine"] * 5}
    server = pyfunc_models.Server(loaded)
    answer = pyfunc_models.run(server.call("POST", "/v2/models/m/explain", json.dumps({"inputs": [item]}).encode()))
    problem = "the explanation of 5 rows has 3072 numbers for each, and 12288 are the most: at most 4 at a time"
    assert (answer.status, answer.document["error"]) == (400, problem)


def test_the_server_answers_while_an_explanation_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import Ridge

    loaded = pyfunc_models.model(lambda data: data, raw=Ridge().fit(frame(), frame()["a"]))
    loaded.metadata.flavors["sklearn"] = {}
    server = pyfunc_models.Server(loaded)
    begun, answered = threading.Event(), threading.Event()
    write = nested.text

    def slow(value: object) -> str:
        begun.set()
        assert answered.wait(PATIENCE), "no other request was answered"
        return write(value)

    async def both() -> tuple[pyfunc_models.Answer, pyfunc_models.Answer]:
        body = json.dumps(request(scoring.ROWS[:2])).encode()
        explained = asyncio.ensure_future(server.call("POST", "/v2/models/m/explain", body))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, PATIENCE)
        health = await server.call("GET", "/v2/health/ready")
        answered.set()
        return health, await explained

    monkeypatch.setattr(nested, "text", slow)
    health, explained = pyfunc_models.run(both())
    assert (health.status, explained.status) == (200, 200), explained.body


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


def test_an_xgboost_model_is_explained_with_its_best_trees_and_its_missing_value() -> None:
    xgboost = pytest.importorskip("xgboost", reason="needs xgboost")
    rows = frame()
    rows.loc[rows.index % 5 == 0, "a"] = -1.0
    noise = numpy.random.default_rng(0).normal(size=len(rows))
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=20, missing=-1.0)
    model.fit(rows[::2], noise[::2], eval_set=[(rows[1::2], noise[1::2])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    found = explanation.explain(Loaded(model, "xgboost"), rows)
    assert found.base is not None
    assert found.contributions.sum(axis=-1) + found.base == pytest.approx(model.predict(rows), rel=1e-4, abs=1e-4)
