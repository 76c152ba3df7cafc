"""Names of steps that no document names: valid, and taken by no other step."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.domain.workflows import step_names


@given(text=st.text(max_size=200), number=st.integers(0, 12))
@example(text="build-" + "A" * 58 + "-B", number=11)
@example(text="", number=0)
def test_every_text_gives_free_names_that_a_document_may_have(text: str, number: int) -> None:
    taken: set[str] = set()
    for _ in range(number + 1):
        name = step_names.free(step_names.of(text), taken)
        assert step_names.RULE.fullmatch(name)
        assert name not in taken
        taken.add(name)


def test_a_name_stays_as_it_is_where_it_may() -> None:
    assert step_names.free(step_names.of("train-data-copy"), {"train"}) == "train-data-copy"
    assert step_names.free(step_names.of("build-My_Tool"), {"build-my-tool"}) == "build-my-tool-2"
