"""Parsing and validation of documents: all problems at once, with positions, for any text."""

from __future__ import annotations

import copy
import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.documents import document
from tests import work


class Leaf(document.Model):
    name: document.Text
    size: int = 0
    visible: bool = False


class Tree(document.Model):
    name: document.Text
    leaves: tuple[Leaf, ...] | None = None
    named: dict[str, list[Leaf]] = {}
    options: dict[str, object] = {}


def problems(text: str) -> list[str]:
    with pytest.raises(errors.InvalidError) as caught:
        document.load(Tree, text)
    return [str(problem) for problem in caught.value.problems]


def test_all_problems_are_reported_at_once_with_position_and_suggestion() -> None:
    text = """\
nmae: oak
leaves:
  - name: a
    size: tall
  - {name: [1], visible: maybe}
named:
  front:
    - naem: b
"""
    assert problems(text) == [
        "line 1, column 1: name: is required",
        "line 4, column 5: leaves[0].size: must be a whole number",
        "line 5, column 6: leaves[1].name: must be text",
        "line 5, column 17: leaves[1].visible: must be true or false",
        "line 8, column 7: named.front[0].name: is required",
        "line 8, column 7: named.front[0].naem: unknown key 'naem' (did you mean 'name'?)",
        "line 1, column 1: nmae: unknown key 'nmae' (did you mean 'name'?)",
    ]


def test_the_message_has_the_first_problem_and_the_number_of_the_others() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        document.load(Tree, "size: 1\nnmae: x\n", kind="workflow")
    assert caught.value.message == "the workflow is not valid: line 1, column 1: name: is required (and 2 more)"
    assert caught.value.details["problems"] == [problem.as_dict() for problem in caught.value.problems]


def test_an_unknown_key_without_a_similar_one_lists_the_known_keys() -> None:
    assert problems("{name: a, leaves: [{name: b, zzz: 1}]}") == [
        "line 1, column 30: leaves[0].zzz: unknown key 'zzz'; known here: name, size, visible"
    ]


def test_thousands_of_problems_are_cut_to_the_limit() -> None:
    with work.at_most(1_000_000):
        reported = problems("name: a\n" + "".join(f"leavse{number}: 1\n" for number in range(10_000)))
    assert len(reported) == document.MAX_PROBLEMS + 1
    assert reported[-1] == "9900 more problems; correct the first ones and validate again"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.10", "1.10"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("1e3", "1e3"),
        ("false", "false"),
        ("True", "true"),
        ("yes", "yes"),
        ("off", "off"),
        ("2026-11-21", "2026-11-21"),
        ("'1'", "1"),
        (".inf", ".inf"),
        ("=", "="),
    ],
)
def test_text_keeps_the_spelling_of_the_document(written: str, expected: str) -> None:
    assert document.load(Leaf, f"name: {written}").name == expected


def test_json_numbers_and_booleans_become_text() -> None:
    assert document.validate(Leaf, json.loads('{"name": 1.5}')).name == "1.5"
    assert document.validate(Leaf, json.loads('{"name": false}')).name == "false"


def test_number_and_boolean_fields_get_numbers_and_booleans() -> None:
    leaf = document.load(Leaf, "{name: a, size: 0x10, visible: yes}")
    assert (leaf.size, type(leaf.size), leaf.visible) == (16, int, True)


def test_keys_keep_the_spelling_of_the_document() -> None:
    assert document.parse("{on: 1, 1.10: 2, yes: 3, 2026-01-01: 4, '': 5}").data == {"on": 1, "1.10": 2, "yes": 3, "2026-01-01": 4, "": 5}


def test_parsed_data_can_be_copied_and_stored() -> None:
    data = document.parse("{a: 1.10, b: [0x10, yes]}").data
    assert copy.deepcopy(data) == data
    assert json.loads(json.dumps(data)) == {"a": 1.1, "b": [16, "yes"]}


def test_a_repeated_key_is_refused_at_every_level() -> None:
    assert problems("name: a\noptions:\n  x: 1\n  'x': 2\nname: b\n") == [
        "line 4, column 3: options.x: the key is repeated; remove one of its two values",
        "line 5, column 1: name: the key is repeated; remove one of its two values",
    ]


def test_merge_keys_give_defaults_for_the_other_keys() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b}\n"
    parsed = document.parse(text)
    assert parsed.data == {"a": {"x": 1, "y": 1}, "b": {"y": 2, "z": 2}, "c": {"x": 3, "y": 1, "z": 2}, "d": {"y": 2, "z": 2}}
    assert parsed.position(("c", "x")) == (3, 19)
    assert parsed.position(("c", "z")) == (3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line 2, column 1: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed in this context"),
        ("a:\n\t- b", "line 2, column 1: while scanning for the next token, found character that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document begins here; a file holds one document"),
        ("a: *b", "line 1, column 4: a: the alias *b has no anchor &b before it"),
        ("&a [*a]", "line 1, column 5: [0]: the alias *a has no anchor &a before it"),
        ("{[a]: 1}", "line 1, column 2: a key must be plain text"),
        ("&a x: {*a : 1}", "line 1, column 8: x: a key must be plain text"),
        ("a: {<<: 1}", "line 1, column 5: a: `<<` takes a mapping or a list of mappings"),
        ("a: !!binary aGk=", "line 1, column 4: a: the tag tag:yaml.org,2002:binary is not supported; remove it"),
        ("a: !!python/name:os.system", "line 1, column 4: a: the tag tag:yaml.org,2002:python/name:os.system is not supported; remove it"),
        ("a: !secret [b]", "line 1, column 4: a: the tag !secret is not supported; remove it"),
        ("a: !!int ''", "line 1, column 4: a: '' cannot be read as a number"),
        ("a: b\nü: c\x07", "line 2, column 5: the text holds a character that YAML does not allow"),
        ("a: \ud800", "the text holds half of a character (a lone surrogate)"),
    ],
)
def test_unreadable_text_is_refused_with_its_position(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        document.parse(text)
    assert caught.value.message == f"the document cannot be read: {message}"


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{a: " * 50_000,
        "- " * 200_000,
        "? " * 100_000,
        "".join(f"{' ' * depth}a:\n" for depth in range(1_000)),
        LAUGHS,
        LAUGHS + "? *i\n: 1\n",
        MERGES,
        "- {a: 1}\n" * 200_000,
        "a: " + "9" * 10_000,
    ],
    ids=["flow", "mappings", "block", "keys", "indented", "laughs", "laughing-key", "merges", "wide", "digits"],
)
def test_hostile_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(errors.InvalidError), work.at_most(2_000_000):
        document.parse(text)


def test_an_empty_text_has_no_data() -> None:
    for text in ("", "\n# nothing\n", "---\n"):
        assert document.parse(text).data is None
    assert problems("") == ["must be a mapping of keys to values"]


@given(st.text(alphabet=st.sampled_from(string.printable + "&*!|>%@`ü\u2028\x00\ud800"), max_size=60) | st.text(max_size=60))
def test_arbitrary_text_is_parsed_or_refused_without_another_error(text: str) -> None:
    try:
        parsed = document.parse(text)
        document.validate(Tree, parsed.data, position=parsed.position)
    except errors.InvalidError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line is None or 1 <= problem.line <= len(text.splitlines()) + 2


_words = st.text(string.ascii_letters + "-_ :#'\"{}[],&*?|>%@!=\n", max_size=8)
_data = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9999) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=12,
)


@given(_data)
def test_yaml_output_parses_back_to_the_same_data(data: object) -> None:
    for flow in (True, False):
        assert document.parse(yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)).data == data


@given(st.dictionaries(st.sampled_from(["name", "leaves", "named", "options", "x"]), _data, max_size=5))
def test_data_of_any_shape_is_accepted_or_refused(data: object) -> None:
    try:
        document.validate(Tree, data)
    except errors.InvalidError as error:
        assert all(problem.message for problem in error.problems)


def test_positions_inside_an_aliased_value_are_those_of_the_alias() -> None:
    parsed = document.parse("a: &a {x: [1]}\nb: *a\n")
    assert parsed.position(("a", "x", 0)) == (1, 12)
    assert parsed.position(("b", "x", 0)) == (2, 1)


def test_the_nearest_word_ignores_case() -> None:
    assert document.nearest("Imgae", ["name", "image"]) == "image"
    assert document.nearest("xyz", ["name", "image"]) is None
    assert document.nearest("image" * 1000, ["image"]) is None


@pytest.mark.parametrize("name", ["a", "A-1", "_x", "9", "a" * 100])
def test_legal_identifiers_are_accepted(name: str) -> None:
    assert document.check_identifier("name", name) == name


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "..", "a\n", "ä", "a" * 101, "a.b"])
def test_illegal_identifiers_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a valid name") as caught:
        document.check_identifier("project", name)
    assert caught.value.problems[0].path == "project"
