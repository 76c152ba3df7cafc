"""Trace context: reading, validation and propagation."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.runtime.telemetry import trace

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{ID}-{SPAN}-01"


def hexadecimal(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length).filter(lambda text: text.strip("0") != "")


@given(hexadecimal(32), hexadecimal(16), st.sampled_from(["00", "01"]), st.sampled_from(["", "vendor=1,other=a b"]))
def test_a_written_trace_is_read_again(id: str, span: str, flags: str, state: str) -> None:
    written = trace.Trace(id, span, flags, state)
    assert trace.read(written.carrier()) == written


@given(st.text(string.printable))
def test_an_arbitrary_header_is_no_trace_and_no_error(text: str) -> None:
    found = trace.read({"traceparent": text, "tracestate": text})
    assert found is None or trace.read(found.carrier()) == found


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00-1-2-01",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID}-{SPAN}",
        PARENT + "\n" + PARENT,
    ],
)
def test_an_invalid_header_is_no_trace(parent: str) -> None:
    assert trace.read({"traceparent": parent}) is None


def test_the_known_part_of_a_later_version_is_read() -> None:
    assert trace.read({"traceparent": f"cc-{ID}-{SPAN}-03-what-the-future-will-be-like"}) == trace.Trace(ID, SPAN, "01")


def test_a_state_without_a_trace_or_of_another_shape_is_dropped() -> None:
    assert trace.read({"tracestate": "vendor=1"}) is None
    for state in ("a" * 513, "a=\r\nX: y", "a=ü"):
        assert trace.read({"traceparent": PARENT, "tracestate": state}) == trace.Trace(ID, SPAN)


def test_a_new_trace_is_valid_sampled_and_another_each_time() -> None:
    first, second = trace.new(), trace.new()
    assert trace.read(first.carrier()) == first
    assert first.flags == "01"
    assert first.id != second.id


def test_work_belongs_to_its_cause_and_the_rest_to_none() -> None:
    cause = trace.Trace(ID, SPAN, "00", "vendor=1")
    assert (trace.current(), trace.outgoing()) == (None, {})
    with trace.span("outer", "server", cause) as work:
        assert (work.trace, trace.outgoing()) == (cause, {"traceparent": PARENT[:-1] + "0", "tracestate": "vendor=1"})
        with trace.span("inner", "consumer", None):
            assert trace.current() not in (None, cause), "without a cause a trace begins"
        with trace.continued(None):
            assert trace.current() == cause
        assert trace.current() == cause
    assert trace.current() is None
