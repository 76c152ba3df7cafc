"""The traffic of an application's revisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import application, errors

revisions = st.lists(st.integers(1, 50), min_size=1, max_size=10, unique=True).map(sorted)


@given(revisions, st.data())
def test_shares_add_up_to_100_percent_of_servable_revisions(servable: list[int], data: st.DataObject) -> None:
    names = [str(number) for number in servable] + ["current", "previous"][: len(servable)]
    requested = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    cut = data.draw(st.lists(st.integers(0, 100), min_size=len(requested) - 1, max_size=len(requested) - 1).map(sorted))
    percents = [after - before for before, after in zip([0, *cut], [*cut, 100], strict=True)]
    shared = application.shares(dict(zip(requested, percents, strict=True)), servable)
    assert sum(shared.values()) == 100
    assert set(shared) <= set(servable)
    assert all(percent > 0 for percent in shared.values())


@given(revisions, st.data())
def test_a_roll_back_goes_to_the_next_older_revision_down_to_the_oldest(servable: list[int], data: st.DataObject) -> None:
    served: dict[int, int] = {data.draw(st.sampled_from(servable)): 100}
    for _ in range(servable.index(next(iter(served)))):
        before = min(served)
        served = application.rolled_back(served, servable)
        assert list(served.values()) == [100]
        assert min(served) == max(number for number in servable if number < before)
    with pytest.raises(errors.ConflictError, match=f"no revision before {servable[0]}"):
        application.rolled_back(served, servable)


def test_a_roll_back_of_a_split_ends_at_its_older_revision() -> None:
    assert application.rolled_back({4: 10, 3: 90}, [2, 3, 4]) == {3: 100}


def test_current_and_previous_are_the_newest_two() -> None:
    assert application.shares({"current": 90, "previous": 10}, [2, 5, 7]) == {7: 90, 5: 10}


@pytest.mark.parametrize(
    ("requested", "servable", "message"),
    [
        ({"current": 90}, [1, 2], "add up to 90, not 100"),
        ({"previous": 100}, [1], "no such revision; there are current, 1"),
        ({"3": 100}, [1, 2], "no such revision; there are current, previous, 1, 2"),
        ({"current": 150, "previous": -50}, [1, 2], "0 to 100 percent"),
        ({}, [1], "add up to 0"),
    ],
)
def test_invalid_traffic_is_refused(requested: dict[str, int], servable: list[int], message: str) -> None:
    with pytest.raises(errors.InvalidError, match=message):
        application.shares(requested, servable)


def test_names_reserved_by_knative_are_refused_and_values_are_hidden() -> None:
    fields = {"name": "a", "type": "predictor", "workflow": "w"}
    with pytest.raises(ValueError, match="K_SERVICE, PORT: these names are reserved by Knative"):
        application.Application.model_validate({**fields, "environment": {"PORT": "1", "K_SERVICE": "x"}})
    assert "pa55" not in repr(application.Application.model_validate({**fields, "environment": {"PASSWORD": "pa55"}}))
