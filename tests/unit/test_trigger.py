"""Push triggers: globs of refs and paths."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, workflows
from fuseml.domain.workflows import loading, triggers

MAIN = "refs/heads/main"


def on_push(refs: Sequence[str] = (), paths: Sequence[str] = ()) -> workflows.On:
    return workflows.On(push=workflows.Push(refs=list(refs), paths=list(paths)))


def test_without_a_trigger_every_branch_and_no_tag_matches() -> None:
    for on in (None, workflows.On(), on_push()):
        assert triggers.matches_push(on, MAIN, ["a"]) == (True, "refs/heads/main was pushed")
        assert triggers.matches_push(on, "refs/heads/feature/x", None)[0]
        assert triggers.matches_push(on, "refs/tags/v1", ["a"]) == (False, "refs/tags/v1 is not a branch")
        assert not triggers.matches_push(on, "refs/notes/commits", ["a"])[0]


def test_a_workflow_with_other_triggers_ignores_pushes() -> None:
    assert triggers.matches_push(workflows.On(schedule="0 3 * * *"), MAIN, ["a"]) == (False, "the workflow is triggered by a schedule")
    assert triggers.matches_push(workflows.On(patterns=["model://*"]), MAIN, ["a"]) == (False, "the workflow is triggered by artifacts")
    both = workflows.On(push=workflows.Push(), schedule="0 3 * * *")
    assert triggers.matches_push(both, MAIN, ["a"])[0]


@pytest.mark.parametrize(
    ("glob", "ref", "expected"),
    [
        ("main", MAIN, True),
        ("main", "refs/heads/main2", False),
        ("main", "refs/tags/main", False),
        ("refs/heads/main", MAIN, True),
        ("release/*", "refs/heads/release/1.0", True),
        ("release/*", "refs/heads/release/1.0/fix", False),
        ("release/**", "refs/heads/release/1.0/fix", True),
        ("*", MAIN, True),
        ("*", "refs/heads/a/b", False),
        ("**", "refs/heads/a/b", True),
        ("**", "refs/tags/v1", False),
        ("v*", "refs/tags/v1", False),
        ("refs/tags/v*", "refs/tags/v1.2", True),
        ("refs/tags/v*", "refs/heads/v1", False),
        ("v[0-9]", "refs/heads/v1", True),
        ("v[!0-9]", "refs/heads/v1", False),
        ("v?", "refs/heads/v1", True),
    ],
)
def test_refs_match_globs(glob: str, ref: str, expected: bool) -> None:
    assert triggers.matches_push(on_push([glob]), ref, [])[0] is expected


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("conda.yaml", "conda.yaml", True),
        ("conda.yaml", "sub/conda.yaml", False),
        ("**/conda.yaml", "conda.yaml", True),
        ("**/conda.yaml", "a/b/conda.yaml", True),
        ("src/**", "src/a/b.py", True),
        ("src/**", "other/a.py", False),
        ("src/", "src/a/b.py", True),
        ("*.py", "train.py", True),
        ("*.py", "src/train.py", False),
        ("**/*.py", "src/deep/train.py", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/b/c/y", False),
        ("data/[ab].csv", "data/a.csv", True),
        ("x+y.txt", "x+y.txt", True),
    ],
)
def test_paths_match_globs(glob: str, path: str, expected: bool) -> None:
    assert triggers.matches_push(on_push(paths=[glob]), MAIN, [path])[0] is expected


def test_a_path_filter_names_the_matching_file() -> None:
    on = on_push(["main"], ["conda.yaml", "MLproject"])
    assert triggers.matches_push(on, MAIN, ["README.md", "conda.yaml"]) == (
        True,
        "refs/heads/main was pushed and conda.yaml matches conda.yaml",
    )
    assert triggers.matches_push(on, MAIN, ["README.md"]) == (False, "no changed file matches conda.yaml, MLproject")
    assert triggers.matches_push(on, MAIN, []) == (False, "no changed file matches conda.yaml, MLproject")
    assert triggers.matches_push(on, "refs/heads/x", ["conda.yaml"]) == (False, "refs/heads/x does not match main")


def test_unknown_paths_pass_every_filter() -> None:
    assert triggers.matches_push(on_push(paths=["conda.yaml"]), MAIN, None) == (
        True,
        "refs/heads/main was pushed; its changed files are unknown",
    )


def test_a_hostile_glob_matches_in_linear_time() -> None:
    glob = "/".join(["**", "*a*a*a*a*a*b"] * 15)
    assert len(glob) <= triggers.MAX_GLOB
    assert not triggers.matches_push(on_push(paths=[glob]), MAIN, ["/".join(["a" * 60] * 60)])[0]


_SEGMENT = st.text("ab.", min_size=1, max_size=3)


@given(st.lists(_SEGMENT | st.just("**") | st.just("*"), min_size=1, max_size=4), st.lists(_SEGMENT, min_size=1, max_size=4))
def test_globs_agree_with_a_regular_expression(glob: list[str], path: list[str]) -> None:
    # The same meaning of `**` as a regular expression over segments that end in a slash.
    parts = {"**": "(?:[^/]+/)*", "*": "[^/]+/"}
    expected = re.fullmatch("".join(parts.get(part, re.escape(part) + "/") for part in glob), "/".join(path) + "/") is not None
    assert triggers.matches_push(on_push(paths=["/".join(glob)]), MAIN, ["/".join(path)])[0] is expected


@pytest.mark.parametrize("glob", ["main", "release/*", "refs/tags/v*", "**", "feature-[ab]"])
def test_legal_refs_are_accepted(glob: str) -> None:
    triggers.check_ref(glob)


@pytest.mark.parametrize("glob", ["", "a b", "!main", "a..b", "a~1", "/main", "main/", "x.lock", "a//b", "v[0", "-x", "a" * 300])
def test_illegal_refs_are_refused(glob: str) -> None:
    with pytest.raises(errors.InvalidError):
        triggers.check_ref(glob)


@pytest.mark.parametrize("glob", ["conda.yaml", "src/**", "src/", "a b.txt", "**/*.py"])
def test_legal_paths_are_accepted(glob: str) -> None:
    triggers.check_path(glob)


@pytest.mark.parametrize("glob", ["", "/conda.yaml", "./x", "../x", "a/../b", "!x", "a//b", "src/[a", "a\\b", "a" * 300])
def test_illegal_paths_are_refused(glob: str) -> None:
    with pytest.raises(errors.InvalidError):
        triggers.check_path(glob)


FOLDERS = """
name: monorepo
inputs: [{name: code, type: codeset}, {name: service, default: services/churn}]
steps:
  - {name: train, image: a:1, inputs: [{codeset: {name: code, folder: "{{ inputs.service }}"}}]}
  - {name: check, image: a:1, inputs: [{codeset: {name: code, folder: libs/}}]}
"""


def test_without_paths_the_folders_of_the_steps_decide() -> None:
    folders = triggers.watched_folders(loading.load(FOLDERS))
    assert folders == ["libs", "services/churn"]
    assert triggers.matches_push(None, MAIN, ["README.md", "libs/a.py"], folders) == (True, f"{MAIN} was pushed and libs/a.py changed")
    refused = triggers.matches_push(None, MAIN, ["services/churner/a.py", "libs"], folders)
    assert refused == (False, "no file changed in libs, services/churn")
    assert triggers.matches_push(None, MAIN, None, folders)[0]
    assert triggers.matches_push(on_push(paths=["README.md"]), MAIN, ["README.md"], folders)[0]


def test_a_step_at_the_root_of_the_codeset_watches_all_of_it() -> None:
    assert triggers.watched_folders(loading.load(FOLDERS.replace("folder: libs/", "path: /code"))) == []
