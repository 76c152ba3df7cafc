"""Python versions of environments."""

from __future__ import annotations

import pytest

from fuseml.steps import sdk
from fuseml.steps.dependencies import pythons


@pytest.mark.parametrize(
    ("written", "specifier"),
    [
        ("3.11", "==3.11.*"),
        ("3.11.4", "==3.11.4"),
        (">=3.10,<3.13", "<3.13,>=3.10"),
        ("3", "==3.*"),
        (">=3.6", ">=3.6"),
        ("!=3.9.*,>=3.7,<3.12", "!=3.9.*,<3.12,>=3.7"),
        ("==3.8.18", "==3.8.18"),
        ("<3.9", "<3.9"),
    ],
)
def test_a_version_is_a_release_a_series_or_a_range(written: str, specifier: str) -> None:
    assert pythons.specifier(written, "file") == specifier


@pytest.mark.parametrize("written", ["3.6", "3.7", "3.7.16", "2.7", ">=3.5,<3.8", "<3.8", "==3.7.*"])
def test_a_version_before_3_8_is_refused_in_one_sentence(written: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        pythons.specifier(written, "conda.yaml: dependencies: python")
    assert str(raised.value) == (
        f"conda.yaml: dependencies: python: Python {written} is not supported: steps and MLflow need Python 3.8 or newer; "
        "name a newer version here, and train again"
    )


def test_text_that_is_no_version_is_refused() -> None:
    with pytest.raises(sdk.StepError, match=r"a: 'new' is not a Python version; write one such as \"3.11\""):
        pythons.specifier("new", "a")


@pytest.mark.parametrize(
    ("text", "version"), [("3.11.4\n", "3.11.4"), ("# mine\ncpython-3.10\n", "3.10"), ("my-env\n", ""), ("pypy3.10\n", ""), ("", "")]
)
def test_a_version_file_names_a_version_or_an_environment(text: str, version: str) -> None:
    assert pythons.of_version_file(text) == version
