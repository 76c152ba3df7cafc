"""The choice of a model server: each combination of a format, a serving and a name is served, or refused with ways out that work."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, model_servers

FORMATS: tuple[model_servers.Format, ...] = get_args(model_servers.Format)
names = st.sampled_from((model_servers.AUTO, "", *model_servers.SERVERS))
servings = st.sampled_from(sorted(model_servers.OFFERED))


@given(st.sampled_from(FORMATS), names, servings)
def test_a_model_is_served_by_the_named_server_of_the_serving_or_refused_with_a_way_out(
    format: model_servers.Format, server: str, served_by: str
) -> None:
    try:
        choice = model_servers.choose(format, server, served_by=served_by)
    except errors.InvalidError as error:
        # Each serving that the refusal names serves the model without a named server, and by each server that it names.
        ways = re.findall(r"([a-z0-9-]+) \(([a-z or]+)\)", error.message)
        assert ways or "log the model with MLflow" in error.message, error.message
        for resource, listed in ways:
            for other in listed.split(" or "):
                assert model_servers.choose(format, other, served_by=resource).server == other
            assert model_servers.choose(format, served_by=resource).server in listed.split(" or ")
    else:
        assert choice.format == format
        assert choice.server in model_servers.OFFERED[served_by]
        assert server in ("", model_servers.AUTO, choice.server)


@given(servings)
def test_every_serving_takes_models_of_mlflow(served_by: str) -> None:
    assert model_servers.choose("mlflow", served_by=served_by).path("wine") == "/v2/models/wine/infer"


@given(st.sampled_from(FORMATS))
def test_the_embedded_server_takes_what_its_model_server_reads(format: model_servers.Format) -> None:
    try:
        assert model_servers.choose(format, offered=model_servers.EMBEDDED).server == "fuseml"
    except errors.InvalidError as error:
        assert format not in ("mlflow", "onnx"), error.message


@pytest.mark.parametrize(
    ("format", "server", "served_by", "path"),
    [
        ("mlflow", "", "fuseml-serving", "/v2/models/wine/infer"),
        ("mlflow", "mlflow", "fuseml-serving", "/invocations"),
        ("tensorflow", "auto", "kserve-api", "/v1/models/wine:predict"),
        ("onnx", "", "kserve-api", "/v2/models/wine/infer"),
    ],
)
def test_the_path_of_predictions_is_that_of_the_protocol(format: model_servers.Format, server: str, served_by: str, path: str) -> None:
    assert model_servers.choose(format, server, served_by=served_by).path("wine") == path


@pytest.mark.parametrize(
    ("format", "server", "served_by", "message"),
    [
        ("onnx", "torchserve", "kserve-api", "there is no model server 'torchserve'; there are auto, fuseml, mlserver"),
        ("mlflow", "triton", "kserve-api", "reads no model of the format 'mlflow' but onnx, tensorflow, pytorch, openvino, triton"),
        ("mlflow", "mlserver", "unknown-api", "unknown-api does not run the model server 'mlserver' here"),
        ("mlflow", "mlflow", "kserve-api", "leave the server out or name mlserver"),
        ("openvino", "", "fuseml-serving", "resolve to kserve-api (triton or openvino), seldon-core-api (triton)"),
    ],
)
def test_a_refusal_names_what_fits(format: model_servers.Format, server: str, served_by: str, message: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        model_servers.choose(format, server, served_by=served_by)
    assert message in caught.value.message
