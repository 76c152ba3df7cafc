"""The Open Inference Protocol, MLflow's own protocol and `mlflow.pyfunc` agree: the same answer, or the same refusal."""

from __future__ import annotations

import base64
import datetime
import math
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.component import agreement, pyfunc_models, type_tables

with pyfunc_models.quiet():
    from mlflow.types.schema import AnyType, Array, ColSpec, Map, Object, Property

MOMENTS = st.datetimes(min_value=datetime.datetime(1700, 1, 1), max_value=datetime.datetime(2200, 1, 1)).map(
    lambda moment: moment.isoformat(timespec="microseconds")
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": TEXT,
    "binary": st.binary(max_size=5).map(lambda data: base64.b64encode(data).decode()),
    "datetime": MOMENTS,
}
ANY = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**31), 2**31), TEXT), lambda inner: st.dictionaries(TEXT, inner, max_size=2), max_leaves=3
)
# Where MLflow's own protocol, which is MLflow's code, differs from MLflow in Python; docs/serving.md shows it by type.
CHANGED_NULLS = ("boolean", "binary")
LEAVES_REFUSED_OR_CHANGED = ("integer", "float", "datetime", "binary")


def values_of(described: dict[str, Any]) -> st.SearchStrategy[Any]:
    """JSON values of a column type."""
    kind = described["type"]
    if kind == "array":
        return st.lists(values_of(described["items"]), max_size=3)
    if kind == "map":
        return st.dictionaries(TEXT, values_of(described["values"]), max_size=2)
    if kind == "object":
        parts = {name: values_of(one) for name, one in described["properties"].items()}
        optional = [name for name, one in described["properties"].items() if not one["required"]]
        return st.fixed_dictionaries(
            {name: part for name, part in parts.items() if name not in optional}, optional={name: parts[name] for name in optional}
        )
    return ANY if kind == "any" else SCALARS[kind]


def properties(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = st.builds(lambda name, kind, required: Property(name, kind, required=required), st.sampled_from("pqr"), inner, st.booleans())
    return st.lists(one, min_size=1, max_size=2, unique_by=lambda one: one.name).map(Object)


LEAVES = st.sampled_from(sorted(SCALARS))
NESTED = st.recursive(
    st.one_of(LEAVES.map(Array), LEAVES.map(Map), properties(LEAVES)),
    lambda inner: st.one_of(inner.map(Array), inner.map(Map), properties(inner)),
    max_leaves=2,
)
TYPES = st.one_of(LEAVES, LEAVES, NESTED, st.just(AnyType()))  # type: ignore[no-untyped-call]


@st.composite
def rows(draw: st.DrawFn) -> agreement.Rows:
    """A signature and its rows: some null, some optional columns left out, some required ones as well."""
    types = draw(st.lists(TYPES, min_size=1, max_size=3))
    labels: list[Any] = draw(st.sampled_from([["a", "b c", "d"], [0, 1, 2], [None, None, None]]))
    named = labels[0] is not None
    columns = [ColSpec(kind, labels[index], required=not named or draw(st.booleans())) for index, kind in enumerate(types)]
    number = draw(st.integers(1, 3))
    values: list[list[Any] | None] = []
    for index, column in enumerate(columns):
        one = values_of(column.to_dict())
        if draw(st.booleans()):
            one = st.one_of(one, st.none())
        # MLflow refuses a request without any column in a form of its own.
        absent = named and index > 0 and draw(st.integers(0, 5)) == 0
        values.append(None if absent else draw(st.lists(one, min_size=number, max_size=number)))
    return agreement.Rows(columns, values)


def leaves(described: dict[str, Any]) -> set[str]:
    """The types at the bottom of a nested type; none for others."""
    inner = [described.get("items"), described.get("values"), *described.get("properties", {}).values()]
    nested = [one for one in inner if isinstance(one, dict)]
    return {leaf for one in nested for leaf in (leaves(one) or {one["type"]})}


def mlflow_differs(sent: agreement.Rows) -> bool:
    """Whether /invocations may differ from MLflow in Python for these rows."""
    for _, column, values in sent.sent():
        described = column.to_dict()
        if described["type"] in CHANGED_NULLS and None in values:
            return True
        if leaves(described) & set(LEAVES_REFUSED_OR_CHANGED) or (leaves(described) and None in values and column.required):
            return True
        if described["type"] == "any" and any(value is None for value in values):
            return True  # pandas infers another type from rows than from a column
    return False


@hypothesis.given(rows())
@hypothesis.settings(max_examples=60, deadline=None)
def test_all_ways_give_the_same_answer_or_the_same_refusal(sent: agreement.Rows) -> None:
    outcome = agreement.outcomes(sent)
    assert outcome.v2 == outcome.direct, (sent, outcome)
    if not mlflow_differs(sent):
        assert outcome.invocations == outcome.direct, (sent, outcome)


WRONG: dict[str, Any] = {
    "boolean": "x",
    "integer": "x",
    "long": 0.5,
    "float": "x",
    "double": "x",
    "string": 3,
    "binary": 3,
    "datetime": "x",
}


@hypothesis.given(st.sampled_from(sorted(WRONG)), st.data())
@hypothesis.settings(max_examples=40, deadline=None)
def test_a_value_of_another_type_is_refused_as_in_python_and_explained(kind: str, data: st.DataObject) -> None:
    good = data.draw(SCALARS[kind])
    column = ColSpec(kind, "the column")
    loaded = pyfunc_models.model(agreement.seen, [column])
    datatype = {str: "BYTES", float: "FP64", int: "INT64"}[type(WRONG[kind])]
    server = pyfunc_models.Server(loaded)
    for values in ([WRONG[kind]], [WRONG[kind], WRONG[kind]]):
        answer = server.infer({"inputs": [{"name": "the column", "datatype": datatype, "shape": [len(values)], "data": values}]})
        assert answer.status == 400
        text = answer.document["error"]
        assert "'the column'" in text
        assert f"the model takes {kind} as" in text
    right = agreement.outcomes(agreement.Rows([column], [[good]]))
    assert right.v2 == right.direct != agreement.REFUSED


@hypothesis.given(
    st.lists(st.one_of(st.none(), SCALARS["double"]), min_size=1, max_size=4), st.lists(st.one_of(st.none(), TEXT), min_size=1, max_size=4)
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_predictions_are_those_of_the_model_in_all_ways(numbers: list[float | None], texts: list[str | None]) -> None:
    rows = min(len(numbers), len(texts))
    sent = agreement.Rows([ColSpec("double", "n"), ColSpec("string", "t")], [numbers[:rows], texts[:rows]])
    server = pyfunc_models.Server(pyfunc_models.model(lambda frame: frame, sent.columns))
    outputs = server.infer(sent.request(server.metadata())).document["outputs"]
    assert [output["data"] for output in outputs] == sent.values
    scored = server.invocations(sent.invocation()).document["predictions"]

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    assert [[plain(row["n"]) for row in scored], [plain(row["t"]) for row in scored]] == sent.values


def test_the_tables_of_the_documentation_are_those_of_today() -> None:
    assert type_tables.PAGE.read_text() == type_tables.written(type_tables.PAGE.read_text())
