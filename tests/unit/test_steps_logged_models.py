"""The rule that finds the model which a training means, among all that it logged."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import logged_models, sdk, tracking
from fuseml.steps.logged_models import Model

FIRST = Model("model", "run1", "models:/m-1", 1, {"r2": 0.5, "rmse": 3.0})
SECOND = Model("model", "run2", "models:/m-2", 2, {"r2": 0.7, "rmse": 4.0})
SCALER = Model("scaler", "run1", "models:/m-3", 3)
WINE = Model("model", "run3", "models:/m-4", 4, {}, [tracking.Version("wine", "9"), tracking.Version("wine", "10")])
BOTH = Model("model", "run4", "models:/m-5", 5, {}, [tracking.Version("wine", "11"), tracking.Version("beer", "1")])
BY_R2, BY_RMSE = logged_models.metric("max:r2"), logged_models.metric("min:rmse")


@pytest.mark.parametrize(
    ("models", "named", "by", "chosen"),
    [
        ([FIRST], "", None, FIRST),
        ([FIRST, SCALER], "scaler", None, SCALER),
        ([FIRST, SCALER], "m-1", None, FIRST),
        ([FIRST, SCALER], "models:/m-3", None, SCALER),
        ([FIRST, SECOND, WINE], "", None, WINE),
        ([FIRST, WINE], "wine", None, WINE),
        ([FIRST, WINE, SCALER], "scaler", None, SCALER),
        ([FIRST, WINE], "", BY_R2, WINE),
        ([FIRST, SECOND], "", BY_R2, SECOND),
        ([FIRST, SECOND, SCALER], "", BY_RMSE, FIRST),
        ([FIRST, SECOND, SCALER], "model", BY_R2, SECOND),
    ],
)
def test_one_model_is_meant(models: list[Model], named: str, by: logged_models.Metric | None, chosen: Model) -> None:
    for order in itertools.permutations(models):
        assert logged_models.choose(order, named, by) is chosen


def test_the_newest_of_one_name_in_one_run_counts_unless_a_metric_decides() -> None:
    better, later = Model("step", "run", "models:/m-6", 6, {"r2": 0.9}), Model("step", "run", "models:/m-7", 7, {"r2": 0.8})
    assert logged_models.choose([better, later], "", None) is later
    assert logged_models.choose([better, later], "", BY_R2) is better


@pytest.mark.parametrize(
    ("models", "named", "by", "cause"),
    [
        (
            [FIRST, SECOND],
            "",
            None,
            "the training logged 2 models: 'model' of run run1 (r2=0.5, rmse=3), 'model' of run run2 (r2=0.7, rmse=4); name",
        ),
        ([FIRST, SECOND], "model", None, "the training logged 2 models"),
        ([FIRST, SCALER], "", None, "name one in the step input 'model', or the metric that decides in 'metric'"),
        ([WINE, BOTH], "", None, "registered as wine 9, wine 10"),
        ([FIRST, SCALER], "scalar", None, "no model 'scalar', which the step input 'model' names; did you mean 'scaler'?"),
        (
            [FIRST, SECOND],
            "",
            logged_models.metric("max:rsme"),
            "no model has the metric 'rsme' of the step input 'metric' (there are: r2, rmse); did",
        ),
        ([FIRST, Model("other", "run1", "models:/m-8", 8, {"r2": 0.5})], "", BY_R2, "2 models that are equal by r2"),
    ],
)
def test_several_models_or_none_are_refused_with_the_list(
    models: list[Model], named: str, by: logged_models.Metric | None, cause: str
) -> None:
    with pytest.raises(sdk.StepError) as raised:
        logged_models.choose(models, named, by)
    assert cause in str(raised.value)


@given(st.lists(st.sampled_from([FIRST, SECOND, SCALER, WINE, BOTH]), unique_by=id, min_size=1))
def test_the_order_of_the_models_never_decides(models: list[Model]) -> None:
    def outcome(order: list[Model]) -> str:
        try:
            return logged_models.choose(order, "", None).uri
        except sdk.StepError:
            return "refused"

    assert outcome(models) == outcome(models[::-1])


def test_the_version_is_the_newest_of_its_name() -> None:
    assert logged_models.version_of(WINE, "") == tracking.Version("wine", "10")
    assert logged_models.version_of(BOTH, "beer") == tracking.Version("beer", "1")
    assert logged_models.version_of(FIRST, "") is None
    with pytest.raises(sdk.StepError, match="the model is registered as beer, wine: name one of them"):
        logged_models.version_of(BOTH, "")


@pytest.mark.parametrize("text", ["r2", "max:", "best:r2", "max r2"])
def test_a_metric_has_a_direction(text: str) -> None:
    with pytest.raises(sdk.StepError, match="write max:NAME or min:NAME"):
        logged_models.metric(text)
