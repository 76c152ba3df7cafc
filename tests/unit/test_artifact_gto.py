"""GTO's git tags as versions and stages of an artifact."""

from __future__ import annotations

import pytest

from fuseml.artifactstores import gto


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, {}),
        ({"iris@v1.0.0": "a", "iris@v1.1.0": "b"}, {"v1.0.0": "a", "v1.1.0": "b"}),
        ({"iris#prod": "a", "iris#dev": "b"}, {"prod": "a", "dev": "b"}),
        ({"iris#prod#2": "a", "iris#prod#10": "b", "iris#prod#9": "c"}, {"prod": "b"}),
        ({"iris#prod#1": "a", "iris#prod!#2": "a"}, {}),
        ({"iris#prod#1": "a", "iris#prod!#2": "a", "iris#prod#3": "b"}, {"prod": "b"}),
        ({"iris#prod": "a", "iris#prod!": "a"}, {}),
        ({"iris@v1.0.0": "a", "iris@v1.0.0!": "a", "iris@v2.0.0-rc.1": "b"}, {"v2.0.0-rc.1": "b"}),
        ({"iris@v1.0.0": "a", "iris#prod": "a", "iris@deprecated": "a"}, {}),
        ({"iris@created": "a", "iris@v1.0.0": "b"}, {"v1.0.0": "b"}),
        ({"v1.0.0": "a", "iris": "b", "iris@1.0.0": "c", "iris@v1": "d", "iris#": "e", "other@v1.0.0": "f", "iris2#prod": "g"}, {}),
    ],
)
def test_the_labels_of_an_artifact(tags: dict[str, str], expected: dict[str, str]) -> None:
    assert gto.labels(tags, "iris") == expected
    assert gto.labels(dict(reversed(tags.items())), "iris") == expected


def test_a_colon_of_a_name_is_spelled_as_an_equals_sign() -> None:
    assert gto.labels({"data/raw=rows@v1.0.0": "a"}, "data/raw:rows") == {"v1.0.0": "a"}
