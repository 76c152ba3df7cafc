"""Addresses of models: exact ones, moving ones, and those of other stores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import model_address
from fuseml.domain.model_address import Alias, Moving, Newest, OfRun


@pytest.mark.parametrize(
    ("text", "moving"),
    [
        ("models:/wine@champion", Alias("wine", "champion")),
        ("models:/wine red@1", Alias("wine red", "1")),
        ("models:/wine/latest", Newest("wine")),
        ("models:/wine/LATEST", Newest("wine")),
        ("models:/wine/Production", Newest("wine", "Production")),
        ("models:/wine/1a", Newest("wine", "1a")),
        ("runs:/0af/model", OfRun("0af", "model")),
        ("runs:/0af/models/best", OfRun("0af", "models/best")),
    ],
)
def test_a_moving_address_is_understood(text: str, moving: Moving) -> None:
    assert model_address.moving(text) == moving
    assert not model_address.is_exact(text)


@pytest.mark.parametrize("text", ["models:/wine/1", "models:/wine red/20", "models:/m-0123456789abcdef"])
def test_an_exact_address_does_not_move(text: str) -> None:
    assert model_address.is_exact(text)
    assert model_address.moving(text) is None


@pytest.mark.parametrize(
    "text", ["", "wine", "s3://bucket/main/model", "mlflow-artifacts:/1/abc/model", "models:/wine", "models:/wine@", "runs:/0af"]
)
def test_an_address_of_another_store_is_neither(text: str) -> None:
    assert not model_address.is_exact(text)
    assert model_address.moving(text) is None


@given(st.text(st.sampled_from("models:/runs@latestm-019aZ \n"), max_size=24))
def test_no_address_is_both_exact_and_moving(text: str) -> None:
    assert not (model_address.is_exact(text) and model_address.moving(text))
