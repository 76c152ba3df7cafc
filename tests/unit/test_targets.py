"""Targets of requests: what is refused, and that a judged path means the same to every reader."""

from __future__ import annotations

import posixpath
import urllib.parse

import pytest
from hypothesis import example, given

from fuseml.domain import errors
from fuseml.runtime import catalog, targets
from tests.component import addresses


def judged(target: str, **environ: str) -> str | None:
    """The path, or None if it is refused."""
    path = urllib.parse.unquote_to_bytes(target.partition("?")[0].encode("latin-1")).decode("latin-1")
    try:
        return targets.path_of({"RAW_URI": target, "PATH_INFO": path, **environ})
    except errors.InvalidError:
        return None


@pytest.mark.parametrize("target", addresses.LEGITIMATE)
def test_a_legitimate_path_stays_as_it_is(target: str) -> None:
    path = target.partition("?")[0]
    assert judged(target) == path
    assert not targets.is_reserved(path, catalog.INTERNAL)


@pytest.mark.parametrize("dots", addresses.DOTS)
@pytest.mark.parametrize("form", ["/runs/{}", "/runs/{}/", "/{}/runs", "/runs/x/{}/{}/events", "/{}"])
def test_dot_segments_are_refused_in_every_spelling(form: str, dots: str) -> None:
    assert judged(form.format(dots, dots)) is None


@pytest.mark.parametrize("text", addresses.BROKEN)
@pytest.mark.parametrize("form", ["/runs/{}", "/runs/a{}z/c", "/{}"])
def test_text_that_no_path_holds_is_refused(form: str, text: str) -> None:
    assert judged(form.format(text)) is None


@pytest.mark.parametrize("slash", [slash for slash in addresses.SLASHES if slash not in ("/", "%252f")])
def test_separators_in_other_spellings_are_refused(slash: str) -> None:
    assert judged(f"/runs{slash}x") is None


@pytest.mark.parametrize("target", ["*", "", "x", "http://x/runs", "HTTP://x/", "?x", "runs/x"])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    assert judged(target) is None


def test_a_path_that_the_server_read_differently_is_refused() -> None:
    assert judged("/runs/x", PATH_INFO="/x") is None
    assert judged("/runs/x", PATH_INFO="/x", SCRIPT_NAME="/runs") == "/runs/x"
    assert judged("/runs/x", PATH_INFO="/runs/x", SCRIPT_NAME="/runs") is None


def test_bytes_beyond_ascii_are_escaped() -> None:
    assert judged("/runs/ü".encode().decode("latin-1")) == "/runs/%C3%BC"


@pytest.mark.parametrize("escapes", [1, 3, 8, 1000])
def test_the_work_for_repeated_escapes_is_bounded(escapes: int) -> None:
    assert judged("/runs/%" + "25" * (escapes * 100) + "2e") is None


@pytest.mark.parametrize(
    "segment",
    [".internal", ".Internal", "%2einternal", "%252Einternal", ".internal;x", ".%69nternal", ".internal.", ".internal%2e", ".internal-x"],
)
def test_the_reserved_segment_is_found_in_every_spelling(segment: str) -> None:
    for path in (f"/{segment}", f"/{segment}/events", f"/runs/{segment}/events", f"/runs/x/{segment}"):
        assert targets.is_reserved(path, catalog.INTERNAL), path


def readings(path: str) -> list[str]:
    """What other servers could make of a path: decoded again and again, without parameters, with merged slashes, normalised."""
    found, text = [], path
    for _ in range(6):
        text = urllib.parse.unquote(text, errors="replace")
        plain = "/".join(part.partition(";")[0].strip() for part in text.replace("\\", "/").split("/"))
        found += [posixpath.normpath("/" + text.lstrip("/")), posixpath.normpath("/" + plain.lstrip("/"))]
    return found


@given(addresses.paths())
@example("/events/%252e%252e/metrics")
@example("/artifacts/%2e%2e")
@example("/runs/http%253A%252F%252Fx")
@example("/extensions/.internal.")
def test_no_reading_of_an_accepted_path_leaves_the_path_of_its_function(target: str) -> None:
    path = judged(target)
    if path is None or targets.is_reserved(path, catalog.INTERNAL) or (function := catalog.find(urllib.parse.unquote(path))) is None:
        return
    for reading in readings(path):
        assert any(reading == prefix or reading.startswith(prefix + "/") for prefix in function.paths), (target, reading)
        assert catalog.INTERNAL not in reading
