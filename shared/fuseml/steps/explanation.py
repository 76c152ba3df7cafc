"""Explanations of predictions: how much each input adds to a row's prediction, for models whose flavour knows it.

`POST /v2/models/NAME/explain` takes an inference request. Its response has the tensors `features` (names), `contributions` [rows, features] or
[rows, classes, features], and `base`, to which the contributions of a row add up to the model's raw output: the prediction of a regression, the
log-odds of a classification, the linear predictor of a model with a link function. The Open Inference Protocol has no such request; KServe's
protocol v1 calls it `:explain`.

- scikit-learn: its linear models, and pipelines that end in one: coefficient times value. The features are those that the pipeline gives to its
  last step.
- xgboost and lightgbm: the contributions that the library computes (`pred_contribs`, `pred_contrib`: SHAP values of trees).
- an explainer logged by `mlflow.shap.log_explainer`: its own values, without `base`.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from fuseml.steps.inference import errors, messages, nested, service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

MOST_NUMBERS = 2**23  # of an explanation: some hundred MB as JSON
_EXPLAINED = "linear models of sklearn and pipelines that end in one, xgboost, lightgbm, and explainers of mlflow.shap"


class UnsupportedError(Exception):
    """The model is of a kind whose predictions cannot be explained."""


@dataclass(frozen=True)
class Explanation:
    """`contributions` is [rows, features] or [rows, classes, features]; `base` has no last dimension, and is None where it is not known."""

    method: str
    features: Sequence[str]
    contributions: numpy.ndarray
    base: numpy.ndarray | None

    def tensors(self) -> list[dict[str, object]]:
        """The tensors of the response."""
        features: dict[str, object] = {"name": "features", "datatype": "BYTES", "shape": [len(self.features)], "data": list(self.features)}
        numbers = {"contributions": self.contributions, "base": self.base}
        return [features, *(_tensor(name, array) for name, array in numbers.items() if array is not None)]


def explain(model: Any, data: Any) -> Explanation:
    """The explanation of the predictions for `data`, the input of `model.predict`. Raises UnsupportedError."""
    flavors = model.metadata.flavors
    frame = data if isinstance(data, pandas.DataFrame) else None
    names = [str(name) for name in frame.columns] if frame is not None else None
    if "shap" in flavors:
        values = numpy.asarray(model.predict(data), dtype="float64")
        return Explanation("shap explainer", _names(names, values.shape[-1]), values, None)
    raw = model.get_raw_model() if hasattr(model, "get_raw_model") else None
    library = type(raw).__module__.partition(".")[0]
    if library == "xgboost":
        return _xgboost(raw, data, names)
    if library == "lightgbm":
        return _lightgbm(raw, data, names)
    if library == "sklearn":
        return _sklearn(raw, data, names, flavors)
    raise _unsupported(raw, flavors)


def _xgboost(raw: Any, data: Any, names: Sequence[str] | None) -> Explanation:
    import xgboost  # type: ignore[import-not-found,unused-ignore]

    booster, how, rounds = raw, {}, (0, 0)
    if hasattr(raw, "get_booster"):  # predicts with the trees up to the best one, and with its own value for a missing number
        booster, how = raw.get_booster(), {"missing": raw.missing}
        rounds = (0, getattr(raw, "best_iteration", -1) + 1)
    values = numpy.asarray(booster.predict(xgboost.DMatrix(data, **how), pred_contribs=True, iteration_range=rounds), dtype="float64")
    return Explanation("xgboost pred_contribs", _names(names, values.shape[-1] - 1), values[..., :-1], values[..., -1])


def _lightgbm(raw: Any, data: Any, names: Sequence[str] | None) -> Explanation:
    booster = getattr(raw, "booster_", raw)
    count = booster.num_feature()
    values = numpy.asarray(booster.predict(data, pred_contrib=True), dtype="float64")
    if values.shape[1] > count + 1:  # the classes stand side by side
        values = values.reshape(len(values), -1, count + 1)
    return Explanation("lightgbm pred_contrib", _names(names, count), values[..., :-1], values[..., -1])


def _sklearn(raw: Any, data: Any, names: Sequence[str] | None, flavors: Mapping[str, object]) -> Explanation:
    final, values = raw, data
    if hasattr(raw, "steps"):
        final = raw[-1]
        if len(raw.steps) > 1:
            values, names = raw[:-1].transform(data), _transformed_names(raw)
    if not _is_linear(final):
        raise _unsupported(final, flavors)
    final.predict(values)  # refuses input that is not the model's, such as columns in another order, or a missing number
    _check_size(values.shape[0], math.prod(final.coef_.shape))
    matrix, coefficients, intercept = (_dense(array) for array in (values, final.coef_, final.intercept_))
    if coefficients.ndim == 2 and len(coefficients) == 1:
        coefficients, intercept = coefficients[0], intercept.reshape(-1)[:1].sum()
    contributions = matrix * coefficients if coefficients.ndim == 1 else matrix[:, None, :] * coefficients[None]
    base = numpy.broadcast_to(intercept, contributions.shape[:-1])
    return Explanation("coefficient times value", _names(names, matrix.shape[1]), contributions, base)


def _check_size(rows: int, numbers: int) -> None:
    """Raises RequestError for rows whose contributions, so many numbers a row, are too many: a text of some words may have millions of features."""
    if rows * numbers > MOST_NUMBERS:
        way_out = f"at most {MOST_NUMBERS // numbers} at a time" if numbers <= MOST_NUMBERS else "this model cannot be explained here"
        raise errors.RequestError(
            f"the explanation of {rows} rows has {numbers} numbers for each, and {MOST_NUMBERS} are the most: {way_out}"
        )


def _is_linear(model: Any) -> bool:
    """Whether it is a model of scikit-learn's linear ones: others have `coef_` and `intercept_` in another sense, or of centred inputs."""
    modules = [base.__module__ for base in type(model).__mro__]
    return hasattr(model, "coef_") and hasattr(model, "intercept_") and any(name.startswith("sklearn.linear_model.") for name in modules)


def _dense(values: Any) -> numpy.ndarray:
    return numpy.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype="float64")


def _transformed_names(pipeline: Any) -> list[str] | None:
    """The names of the features of the last step; None where a step before it does not know them."""
    try:
        return [str(name) for name in pipeline[:-1].get_feature_names_out()]
    except (AttributeError, ValueError):  # a transformer without names, or one that saw none
        return None


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    return list(names) if names is not None and len(names) == count else [f"feature-{number}" for number in range(count)]


def _unsupported(raw: Any, flavors: Mapping[str, object]) -> UnsupportedError:
    kind = f", a {type(raw).__name__}" if raw is not None else ""
    return UnsupportedError(f"this model (flavours {', '.join(sorted(flavors))}{kind}) cannot be explained; explained are {_EXPLAINED}")


def _tensor(name: str, array: numpy.ndarray) -> dict[str, object]:
    return {"name": name, "datatype": "FP64", "shape": list(array.shape), "data": array.ravel().tolist()}


def response(served: service.Service, body: bytes) -> dict[str, object]:
    """The response to a request in the form of an inference request. Raises RequestError for an invalid one, and UnsupportedError."""
    request = messages.read(body)
    data, _ = served.prepare(request)
    try:
        found = explain(served.model, data)
    except (UnsupportedError, errors.RequestError):
        raise
    except Exception as error:  # a model's code may raise anything
        raise served.failure(error) from error
    answer: dict[str, object] = {"model_name": served.name, "model_version": served.version}
    if request.id is not None:
        answer["id"] = request.id
    return {**answer, "parameters": {"method": found.method}, "outputs": found.tensors()}


def _answer(served: service.Service, body: bytes) -> str:
    """The text of the response, which takes as long as a prediction where rows or features are many."""
    return nested.text(response(served, body))


def endpoint(
    served: service.Service, unknown: Callable[[Request], JSONResponse | None], refusal: Callable[[int, str], JSONResponse]
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of `/explain`. `unknown` answers requests for other models, `refusal` makes an error of a status and a message."""
    from starlette.responses import Response

    async def explain(request: Request) -> Response:
        not_found = unknown(request)
        if not_found is not None:
            return not_found
        body = await request.body()
        try:
            text = await asyncio.get_running_loop().run_in_executor(None, _answer, served, body)
            return Response(text, media_type="application/json")
        except errors.RequestError as error:
            return refusal(400, str(error))
        except UnsupportedError as error:
            return refusal(501, str(error))
        except Exception as error:  # a fault of this server: the log gets the traceback
            traceback.print_exc()
            return refusal(500, f"the explanation failed: {type(error).__name__}: {error}")

    return explain
