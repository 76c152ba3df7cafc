"""Version constraints: the tables of Masterminds, the algebra of the operators, and the sort keys of databases."""

from __future__ import annotations

import contextlib
import itertools
import pathlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.registry import constraint, versions

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "version_constraints.tsv"
ROWS = [line.split("\t") for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]

# The example of the specification, point 11, and its neighbours.
IN_ORDER = [
    "0.0.0-0",
    "0.0.0",
    "0.9.9",
    "1.0.0-0",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "10.0.0",
    "10.0.256",
]

_number = st.sampled_from([0, 0, 1, 1, 2, 3, 9, 10, 256])
_suffix = st.sampled_from(["", "", "", "-0", "-alpha", "-alpha.1", "-beta.2", "-rc.1", "-x-y"])
_prefix = st.sampled_from(["", "v"])
_build = st.sampled_from(["", "+b10022020"])
numbers = st.tuples(_number, _number, _number)
versions_ = st.builds(lambda v, core, suffix, build: f"{v}{'.'.join(map(str, core))}{suffix}{build}", _prefix, numbers, _suffix, _build)
releases = st.builds(lambda core: ".".join(map(str, core)), numbers)
spellings = st.one_of(
    versions_, releases, st.sampled_from(["", "nightly", "RELEASE.2021-06-17", "RELEASE.2023-01-01", "~1.2", "1.x", "01.2.03-01"])
)
_core = st.lists(_number, min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
partials = st.builds(
    lambda v, core, wild, suffix: v + core + wild * (core.count(".") < 2) + suffix,
    _prefix,
    _core,
    st.sampled_from(["", ".x", ".*"]),
    _suffix,
)
OPERATORS = ["", "=", "!=", ">", "<", ">=", "<=", "=>", "=<", "~", "~>", "^"]
terms = st.one_of(
    st.builds(
        lambda operator, space, partial: operator + space + partial, st.sampled_from(OPERATORS), st.sampled_from(["", " "]), partials
    ),
    st.builds("{} - {}".format, partials, partials),
    st.sampled_from(["*", "x", "", "~*"]),
)
# Two joined constraints are within the length limit.
HALF = versions.MAX_LENGTH // 2 - len(" || ")
groups = st.lists(terms.filter(bool), min_size=1, max_size=3).map(", ".join).filter(lambda text: len(text) <= HALF)
constraints = st.lists(groups, min_size=1, max_size=3).map(" || ".join).filter(lambda text: len(text) <= HALF)


def check(text: str, version: str) -> bool:
    parsed = versions.parse(version)
    assert parsed is not None
    return constraint.parse(text).check(parsed)


@pytest.mark.parametrize(("text", "version", "satisfied"), ROWS, ids=[f"{text} {version}" for text, version, _ in ROWS])
def test_constraints_agree_with_the_library_of_the_original(text: str, version: str, satisfied: str) -> None:
    assert check(text, version) == (satisfied == "true")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("~1.10.0", "1.10.0 1.10.9", "1.9.9 1.11.0 2.10.0"),
        ("^0.2.3", "0.2.3 0.2.99", "0.2.2 0.3.0 1.2.3"),
        ("1.2.x", "1.2.0 1.2.77", "1.1.9 1.3.0"),
        ("1.2 - 1.4.5", "1.2.0 1.3.7 1.4.5", "1.1.9 1.4.6"),
        (">=v1.0,<v1.5", "1.0.0 v1.4.99", "0.9.0 1.5.0"),
        ("<1.0 || >=1.2", "0.9 1.2 3.0", "1.0 1.1.5"),
        ("v10.3.1-prealpha+b10022020", "v10.3.1-prealpha+b10022020 10.3.1-prealpha", "10.3.1 10.3.1-alpha"),
        ("1.0", "v1.0 1.0.0 1.0.7", "1.1.0"),
        ("", "1.0 0.0.0", "1.0-alpha"),
        ("nightly", "nightly", "1.0.0 nightly-2"),
        ("RELEASE.2021-06-17", "RELEASE.2021-06-17", "RELEASE.2021-06-18 2021.6.17"),
        ("12.3.4.1234", "12.3.4.1234", "12.3.4"),
    ],
)
def test_the_examples_of_the_specification(text: str, inside: str, outside: str) -> None:
    assert [version for version in inside.split() if not constraint.satisfies(version, text)] == []
    assert [version for version in outside.split() if constraint.satisfies(version, text)] == []


# The algebra


@given(numbers, _suffix, versions_)
def test_a_tilde_equals_its_comparators(core: tuple[int, int, int], suffix: str, version: str) -> None:
    major, minor, patch = core
    if core == (0, 0, 0):
        return  # Masterminds: ~0.0.0 admits every version
    floor = f"{major}.{minor}.{patch}{suffix}"
    # `-0` is the lowest pre-release: it excludes the pre-releases of the next version, too.
    assert check(f"~{floor}", version) == check(f">={floor}, <{major}.{minor + 1}.0{'-0' if suffix else ''}", version)


@given(numbers, _suffix, versions_)
def test_a_caret_fixes_the_first_nonzero_number(core: tuple[int, int, int], suffix: str, version: str) -> None:
    major, minor, patch = core
    ceiling = f"{major + 1}.0.0" if major else f"0.{minor + 1}.0" if minor else f"0.0.{patch + 1}"
    floor = f"{major}.{minor}.{patch}{suffix}"
    assert check(f"^{floor}", version) == check(f">={floor}, <{ceiling}{'-0' if suffix else ''}", version)


@given(_number, _number, st.sampled_from("xX*"), versions_)
def test_wildcards_tildes_and_partial_versions_are_equivalent(major: int, minor: int, wildcard: str, version: str) -> None:
    patches = check(f">={major}.{minor}.0, <{major}.{minor + 1}.0", version)
    for spelling in (
        f"{major}.{minor}.{wildcard}",
        f"={major}.{minor}",
        f"{major}.{minor}",
        f"~{major}.{minor}",
        f"~{major}.{minor}.{wildcard}",
    ):
        assert check(spelling, version) == patches
    minors = check(f">={major}.0.0, <{major + 1}.0.0", version)
    for spelling in (f"{major}.{wildcard}", f"{major}.{wildcard}.{wildcard}", f"{major}", f"~{major}", f"^{major}"):
        assert check(spelling, version) == minors


@given(partials, partials, versions_)
def test_a_hyphen_range_includes_both_ends(low: str, high: str, version: str) -> None:
    assert check(f"{low} - {high}", version) == check(f">={low}, <={high}", version)


@given(partials, versions_, st.sampled_from([("=>", ">="), ("=<", "<="), ("~>", "~"), ("=", "")]))
def test_alternative_spellings_of_operators_are_equivalent(partial: str, version: str, pair: tuple[str, str]) -> None:
    assert check(pair[0] + partial, version) == check(pair[1] + partial, version)


@given(releases, versions_)
def test_exactly_one_of_less_equal_and_greater_holds(limit: str, version: str) -> None:
    # With pre-releases admitted, a full version partitions the others.
    named = f"{limit}-0"
    sides = [check(f"<{named}", version), check(f"={named}", version), check(f">{named}", version)]
    assert sides.count(True) == 1
    assert check(f"<={named}", version) == (sides[0] or sides[1])
    assert check(f">={named}", version) == (sides[1] or sides[2])
    assert check(f"!={limit}", version) == (not check(f"={limit}", version) and "-" not in version)


@given(constraints, constraints, versions_)
def test_or_is_a_union(one: str, other: str, version: str) -> None:
    union = check(one, version) or check(other, version)
    assert check(f"{one} || {other}", version) == union
    assert check(f"{other}||{one}", version) == union


@given(groups, groups, releases)
def test_and_is_an_intersection_of_releases(one: str, other: str, version: str) -> None:
    both = check(one, version) and check(other, version)
    assert check(f"{one}, {other}", version) == both
    assert check(f"{other} {one}", version) == both


@given(groups, versions_)
def test_a_prerelease_is_admitted_only_if_the_constraint_names_one(group: str, version: str) -> None:
    parsed = versions.parse(version)
    assert parsed is not None
    if parsed.is_prerelease and not constraint.parse(group).names_prerelease:
        assert not check(group, version)


@given(constraints, versions_)
def test_a_leading_v_and_build_metadata_are_ignored(text: str, version: str) -> None:
    bare = version.removeprefix("v").partition("+")[0]
    assert check(text, version) == check(text, bare) == check(text, f"v{bare}+other.5")


# The order


def test_versions_have_the_order_of_the_specification() -> None:
    parsed = [version for text in IN_ORDER if (version := versions.parse(text))]
    assert len(parsed) == len(IN_ORDER)
    assert sorted(parsed) == parsed
    assert all(check(f">{low}-0" if "-" not in low else f">{low}", high) for low, high in itertools.pairwise(IN_ORDER))


@given(spellings, spellings)
def test_sort_keys_order_versions_newest_first(one: str, other: str) -> None:
    first, second = versions.parse(one), versions.parse(other)
    keys = versions.sort_key(one), versions.sort_key(other)
    if first and second:
        assert (keys[0] < keys[1], keys[0] == keys[1]) == (first > second, first == second)
    elif first or second:
        assert (keys[0] < keys[1]) == (first is not None), "a semantic version precedes any other spelling"
    else:
        assert (keys[0] < keys[1], keys[0] == keys[1]) == (one > other, one == other)


@given(spellings, constraints.filter(bool))
def test_sort_ranges_contain_every_satisfying_version(version: str, text: str) -> None:
    if constraint.satisfies(version, text):
        assert any(first <= versions.sort_key(version) < end for first, end in constraint.sort_ranges(text))


@given(groups.filter(lambda group: "!" not in group), versions_)
def test_the_sort_ranges_of_a_group_are_exact(group: str, version: str) -> None:
    parsed = versions.parse(version)
    assert parsed is not None
    low, high = constraint.parse(group).groups[0].span
    contained = any(first <= versions.sort_key(version) < end for first, end in constraint.sort_ranges(group))
    assert contained == (low <= parsed.key < high)


# Any text


@given(st.text(max_size=40), st.text(max_size=40))
@example("1.0", "٣.٣")
@example("1.0", "1.0\n")
@example("1" * 300, ">=" + "1" * 300)
@example("1.0", "-" * 200 + "!")
def test_any_text_parses_or_is_refused(version: str, text: str) -> None:
    with contextlib.suppress(errors.InvalidError):
        constraint.satisfies(version, text)
    with contextlib.suppress(errors.InvalidError):
        assert constraint.accept(text) == text
    versions.sort_key(version)


@given(st.text(min_size=1, max_size=40))
def test_every_accepted_text_satisfies_itself(text: str) -> None:
    with contextlib.suppress(errors.InvalidError):
        constraint.accept(text)
        assert constraint.satisfies(text.strip(), text)


@pytest.mark.parametrize(
    "text",
    [
        ">=bar",
        "BAR >= 1.2.3",
        ">=1.2.3-beta.01",
        ">=12.3.4.1234",
        "12.3.34~ 1.2.3",
        ">=1.0,",
        "|| 1.0",
        ">=",
        "> > 1",
        "1.0 &&",
        "not a version",
        "~1..2",
    ],
)
def test_a_malformed_constraint_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"is not a version constraint: .*; examples: '~1\.10\.0'"):
        constraint.accept(text)


def test_a_too_long_constraint_is_refused() -> None:
    with pytest.raises(errors.InvalidError, match="the limit is 256"):
        constraint.accept(">=1.0, " * 10_000)


@pytest.mark.parametrize(
    ("version", "text", "sentence"),
    [
        ("1.10.3", ">=2.0", "version 1.10.3 does not satisfy >=2.0"),
        ("1.10.3", "~1.10.0", "version 1.10.3 satisfies ~1.10.0"),
        ("", "1.x", "no version is registered, so 1.x is not satisfied"),
        ("nightly", "1.x", "version nightly does not satisfy 1.x: it is not a semantic version and matches only its own spelling"),
        ("1.0", "nightly", "version 1.0 does not satisfy nightly, which is not a range and matches only its own spelling"),
        (
            "2.0-rc.1",
            ">=1.0",
            "version 2.0-rc.1 does not satisfy >=1.0: it is a pre-release; a constraint admits them only if it names one (such as >=1.0-0)",
        ),
    ],
)
def test_the_result_is_explained(version: str, text: str, sentence: str) -> None:
    assert constraint.explain(version, text) == sentence
