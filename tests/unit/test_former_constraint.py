"""Constraints whose meaning has changed, compared with the original's library (`tests/golden/original_constraints.tsv`)."""

from __future__ import annotations

import pathlib
import re

import pytest

from fuseml.domain.registry import constraint, former_constraint
from fuseml.domain.workflows import lint

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "original_constraints.tsv"
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "compatibility.md"

_LINES = [line.split("\t") for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
VERSIONS = _LINES[0][1].split()
ADMITTED = {text: set(versions.split()) for text, versions in _LINES[1:]}


def present(text: str) -> set[str]:
    return {version for version in VERSIONS if constraint.satisfies(version, text)}


@pytest.mark.parametrize("text", ADMITTED)
def test_a_changed_meaning_is_noticed_and_no_other(text: str) -> None:
    changed = present(text) != ADMITTED[text]
    assert bool(former_constraint.changes(text)) is changed, sorted(present(text) ^ ADMITTED[text])


@pytest.mark.parametrize("text", ADMITTED)
def test_the_advised_spelling_has_the_former_meaning(text: str) -> None:
    for message in former_constraint.changes(text):
        advised = re.search(r"write (\S+|>=\S+, \S+) for the former meaning", message)
        if advised and text == message.partition(" ")[0]:
            is_release = {version for version in VERSIONS if "-" not in version}
            written = advised[1]
            operator = "!=" if text.startswith("!=") else "<=" if text.startswith(("<=", "=<")) else ""
            assert present(f"{operator}{written}") & is_release == ADMITTED[text] & is_release, message


def test_the_page_shows_the_differences() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (yes|no) \| (yes|no) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 10
    for text, version, formerly, now in rows:
        assert formerly == ("yes" if version in ADMITTED[text] else "no"), (text, version)
        assert now == ("yes" if constraint.satisfies(version, text) else "no"), (text, version)
        assert bool(former_constraint.changes(text)) is (formerly != now), text


def test_lint_warns_of_a_constraint_whose_meaning_has_changed() -> None:
    text = """\
name: w
steps:
  - name: one
    image: a:1
    extensions:
      - {name: kept, product: mlflow, version: ~1.10.0}
      - {name: changed, product: mlflow, version: ">1.2, ^0.2.3"}
"""
    found = [(finding.path, finding.message) for finding in lint.lint_text(text) if "version" in finding.path]
    assert [path for path, _ in found] == ["steps[0].extensions[1].version"] * 2
    assert found[0][1].startswith("since the original FuseML the constraint has changed: >1.2 admitted all above 1.2.0, and admits only")
    assert "^0.2.3 admitted all below 1.0.0" in found[1][1]
