"""The application of the model server, without a socket: models of many shapes, errors, binary data, batches."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path
from typing import Any

import hypothesis
import numpy
import pandas
import pytest
from hypothesis import strategies as st

from fuseml.steps import model_server
from fuseml.steps.inference import service, tensors
from tests.component import pyfunc_models, type_tables
from tests.tensors import tensor
from tests.waiting import PATIENCE

with pyfunc_models.quiet():
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, TensorSpec


def outputs(answer: pyfunc_models.Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.document["outputs"]


def error(answer: pyfunc_models.Answer, status: int = 400) -> str:
    assert answer.status == status, answer.body
    return str(answer.document["error"])


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> pyfunc_models.Server:
    """`log_model(regression, "model")`: trained on a frame, without a signature."""
    from sklearn.linear_model import LinearRegression

    frame = pandas.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
    folder = tmp_path_factory.mktemp("model") / "model"
    with pyfunc_models.quiet():
        mlflow.sklearn.save_model(
            LinearRegression().fit(frame, 2 * frame["a"] + frame["b"]), folder, pip_requirements=[], serialization_format="cloudpickle"
        )
        return pyfunc_models.Server(mlflow.pyfunc.load_model(str(folder)))


def test_a_model_without_a_signature_takes_columns_or_a_matrix(unsigned: pyfunc_models.Server) -> None:
    assert unsigned.metadata()["inputs"] == []
    columns = [tensor("a", "FP64", [1.0, 2.0]), tensor("b", "FP64", [0.0, 3.0], [2, 1])]
    expected = pytest.approx([2.0, 7.0])
    for request in ({"inputs": columns}, {"inputs": columns, "parameters": {"content_type": "pd"}}):
        assert outputs(unsigned.infer(request))[0]["data"] == expected
    assert "the model failed" in error(unsigned.infer({"inputs": columns[:1], "parameters": {"content_type": "pd"}}))
    message = error(unsigned.infer({"inputs": columns, "parameters": {"content_type": "np"}}))
    assert 'the model has no signature: send one tensor of shape [rows, columns], or one tensor for each column and "parameters"' in message


def test_a_message_with_text_of_a_request_is_one_bounded_line(unsigned: pyfunc_models.Server) -> None:
    def predict(data: Any) -> Any:
        raise ArithmeticError("below\n" * 1000)

    failing = pyfunc_models.Server(pyfunc_models.model(predict))
    long = "x y\n" * 1000
    answers = [
        failing.infer({"inputs": [tensor("x", "FP64", [1])]}),
        failing.infer({"inputs": [tensor("x", "FP64", [1]), tensor("x", "BYTES", [long], content_type=long)]}),
        failing.infer({"inputs": [tensor(long, "FP64", [1]), tensor(long, "FP64", [1])]}),
        unsigned.infer({"inputs": [tensor("a", "FP64", [1])], "outputs": [{"name": long}]}),
        unsigned.get(f"/v2/models/{long}"),
    ]
    for answer in answers:
        message = error(answer, answer.status)
        assert answer.status in (400, 404)
        assert len(message) <= 2000
        assert "\n" not in message
    assert 'and "parameters": {"content_type": "pd"} in the request' in error(answers[0]), "the advice is not cut off"


def test_a_message_holds_no_control_and_no_half_character(unsigned: pyfunc_models.Server) -> None:
    columns = [tensor("a", "FP64", [1.0]), tensor("b", "FP64", [0.0])]
    answer = unsigned.infer({"inputs": columns, "outputs": [{"name": "\x1b[31m\0\u202e\ud800b\u00e4"}]})
    assert error(answer) == "the model has no output '?[31m???b\u00e4'; it has: output-0"


def test_values_that_are_nested_too_deeply_are_refused() -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    server = pyfunc_models.Server(pyfunc_models.model(lambda data: [{"a": deep}]))
    assert error(server.infer({"inputs": [tensor("x", "FP64", [1])]})) == "the prediction is nested too deeply for JSON"
    echo = pyfunc_models.Server(pyfunc_models.model(lambda data: data, [ColSpec(AnyType(), "x")]))  # type: ignore[no-untyped-call]
    for depth in (100, 500, 900, 950, 5_000):
        answer = echo.infer({"inputs": [tensor("x", "BYTES", ["[" * depth + "]" * depth])]})
        assert answer.status in (200, 400), answer.body


def test_parameters_of_the_signature_reach_the_model() -> None:
    parameters = ParamSchema([ParamSpec("factor", DataType.double, 2.0)])

    class Model:
        def predict(self, data: Any, params: Any = None) -> Any:
            return data["x"] * params["factor"]

    server = pyfunc_models.Server(pyfunc_models.model(Model().predict, [ColSpec("double", "x")], params=parameters))
    request = {"inputs": [tensor("x", "FP64", [1.5])]}
    assert outputs(server.infer(request))[0]["data"] == [3.0]
    assert outputs(server.infer({**request, "parameters": {"factor": 4.0, "priority": 1}}))[0]["data"] == [6.0]
    assert "factor" in error(server.infer({**request, "parameters": {"factor": "x"}}))


def test_an_exception_of_the_model_is_no_fault_of_the_server() -> None:
    def predict(data: Any) -> Any:
        raise ArithmeticError("below\nzero")

    server = pyfunc_models.Server(pyfunc_models.model(predict, [ColSpec("double", "x")]))
    assert error(server.infer({"inputs": [tensor("x", "FP64", [1])]})) == "the model failed: ArithmeticError: below zero"


def test_a_prediction_that_is_no_tensor_is_a_fault_of_the_server() -> None:
    class Broken:
        def __array__(self, *_: object, **__: object) -> Any:
            raise RuntimeError("no array")

    server = pyfunc_models.Server(pyfunc_models.model(lambda data: Broken(), [ColSpec("double", "x")]))
    assert error(server.infer({"inputs": [tensor("x", "FP64", [1])]}), 500) == "a fault of the model server: RuntimeError: no array"


def test_a_refusal_of_mlflow_is_short() -> None:
    server = pyfunc_models.Server(pyfunc_models.model(lambda data: data, [TensorSpec(numpy.dtype("float64"), (-1, 2))]))
    message = error(server.infer({"inputs": [tensor("x", "FP64", [1.0, 2.0, 3.0], [1, 3])]}))
    assert message == "Shape of input (1, 3) does not match expected shape (-1, 2)."


NAMES: dict[str, Any] = {name: DataType[name] for name in type_tables.SCALARS}
NAMES.update(array=Array("long"), any=AnyType())  # type: ignore[no-untyped-call]
WORDS = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["[1]", "2026-01-02", "9999-12-31T23:59:60+99:99", "aGk=", "1.5", "1e999", '{"a": "\\ud800"}', "\ud800"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)
PARAMETERS = st.one_of(
    st.none(),
    VALUES,
    st.dictionaries(
        st.sampled_from(["content_type", "unit", "nulls", "binary_data_size", "binary_data"]),
        st.one_of(VALUES, st.sampled_from(["str", "base64", "datetime", "json", "pd", "np", "s", "ns", "0"])),
    ),
)
SENT = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*NAMES, "x", "\ud800\x1b"]),
        "datatype": st.sampled_from([*tensors.DATATYPES, "X"]),
        "shape": st.lists(st.one_of(st.integers(0, 2), st.sampled_from([2**33, 2**62, 10**30])), max_size=3),
        "data": st.one_of(*(st.lists(one, max_size=3) for one in (VALUES, WORDS, st.integers(-300, 2**65), st.floats(), st.booleans()))),
        "parameters": PARAMETERS,
    }
)


@pytest.fixture(scope="module")
def models() -> list[pyfunc_models.Server]:
    """Models that return their input: with optional columns of all types, with tensors, and without a signature."""
    text = [TensorSpec(numpy.dtype("str"), (-1,), "string"), TensorSpec(numpy.dtype("float32"), (-1,), "float")]
    signatures: list[Any] = [[ColSpec(kind, name, required=False) for name, kind in NAMES.items()], text, None]
    return [pyfunc_models.Server(pyfunc_models.model(lambda data: data, inputs)) for inputs in signatures]


@hypothesis.given(inputs=st.lists(SENT, min_size=1, max_size=2), parameters=PARAMETERS, whole=st.booleans())
@hypothesis.settings(max_examples=80, deadline=None)
def test_no_request_is_a_fault_of_the_server(models: list[pyfunc_models.Server], inputs: Any, parameters: Any, whole: bool) -> None:
    for item in inputs if whole else ():
        item["shape"] = [len(item["data"])]
    for server in models:
        answer = server.infer({"inputs": inputs, "parameters": parameters})
        assert answer.status in (200, 400), answer.body
        assert answer.document.keys() >= ({"outputs"} if answer.status == 200 else {"error"})


def test_binary_data_in_and_out() -> None:
    server = pyfunc_models.Server(pyfunc_models.model(lambda frame: frame * 2, [ColSpec("double", "x"), ColSpec("float", "y")]))
    assert server.get("/v2").document["extensions"] == ["binary_tensor_data"]
    sizes = [{"name": "x", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}, tensor("y", "FP32", [1, 2])]
    head = json.dumps({"inputs": sizes, "parameters": {"binary_data_output": True}}).encode()
    answer = server.infer(head + struct.pack("<2d", 0.25, float("inf")), inference_header_content_length=str(len(head)))
    length = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert [one["parameters"]["binary_data_size"] for one in json.loads(answer.body[:length])["outputs"]] == [16, 8]
    assert struct.unpack("<2d2f", answer.body[length:]) == (0.5, float("inf"), 2.0, 4.0)
    message = error(server.infer(head, inference_header_content_length=str(len(head))))
    assert "binary_data_size: must be a number of bytes, and 0 bytes of binary data are left" in message


def test_rows_of_concurrent_requests_are_predicted_together() -> None:
    calls: list[int] = []
    lock = threading.Lock()

    def predict(frame: pandas.DataFrame) -> Any:
        with lock:
            calls.append(len(frame))
        if (frame["x"] < 0).any():
            raise ArithmeticError("below zero")
        return frame["x"] * 2

    server = pyfunc_models.Server(pyfunc_models.model(predict, [ColSpec("double", "x")]), service.Batching(30, PATIENCE))
    requests = [{"id": str(number), "inputs": [tensor("x", "FP64", [number, number])]} for number in range(15)]
    answers = server.infer_together(requests)
    assert [(answer.document["id"], outputs(answer)[0]["data"]) for answer in answers] == [(str(n), [2.0 * n] * 2) for n in range(15)]
    assert calls == [30]
    invalid = {"inputs": [tensor("x", "BYTES", ["old"])]}
    answers = server.infer_together([*requests[:14], {"inputs": [tensor("x", "FP64", [-1, -1])]}, invalid])
    assert [answer.status for answer in answers] == [200] * 14 + [400] * 2
    assert error(answers[14]) == "the model failed: ArithmeticError: below zero"
    assert "'old' is not a decimal number" in error(answers[15])


@pytest.mark.parametrize("option", [("--batch-size", "0"), ("--batch-wait", "-1"), ("--batch-wait", "nan")])
def test_invalid_batches_end_the_server_before_it_loads(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    message = "--batch-size must be at least 1, --batch-wait between 0 and 60000"
    with pytest.raises(SystemExit):
        model_server.main(["--model", str(tmp_path / "none"), "--name", "m", *option])
    assert message in capsys.readouterr().err
    monkeypatch.setenv(f"FUSEML_{option[0][2:].upper().replace('-', '_')}", option[1])
    with pytest.raises(SystemExit):
        model_server.main(["--model", str(tmp_path / "none"), "--name", "m"])
    assert message in capsys.readouterr().err
