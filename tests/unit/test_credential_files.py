"""Credentials as files: the paths that a record may name, collisions, and the plan of a step."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.domain.documents import document
from fuseml.domain.registry import credential_files, extension, registry
from fuseml.domain.workflows import loading
from tests.unit import workflow_examples as examples
from tests.unit.test_registry import NEW_ID, NOON, created


def record(files: dict[str, str], **configuration: str) -> dict[str, object]:
    account = {"id": "c", "configuration": configuration or {"KEY": "secret", "TOKEN": "secret"}, "files": files}
    return {"id": "e", "services": [{"id": "s", "credentials": [account]}]}


@given(st.text(st.sampled_from("ab./~-_\\ \0A$:"), max_size=12) | st.text(max_size=300))
def test_an_accepted_path_stays_in_its_folder_and_needs_no_escape(path: str) -> None:
    if credential_files.path_fault(path):
        return
    found = PurePosixPath(path)
    assert not found.is_absolute() and found.parts and ".." not in found.parts and str(found) == path
    assert not set(path) & set("\0 $~:\\\n")
    assert not credential_files.path_fault(f"more/{path}") or len(path) > credential_files.LONGEST - 5


@pytest.mark.parametrize("path", ["key.json", "gcloud/key.json", ".config/gcloud/key.json", "a" * 200])
def test_plain_relative_paths_are_accepted(path: str) -> None:
    assert created(record({"KEY": path})).services[0].credentials[0].files == {"KEY": path}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/key.json", "must be relative"),
        ("~/key.json", "must be relative"),
        ("../key.json", "must not lead out"),
        ("a/../../key.json", "must not lead out"),
        ("a//key.json", "letters, digits"),
        ("a/", "letters, digits"),
        ("./key.json", "letters, digits"),
        ("..data", "letters, digits"),
        ("", "letters, digits"),
        ("$(id)", "letters, digits"),
        ("a" * 201, "at most 200"),
    ],
)
def test_any_other_path_is_refused_with_its_place(path: str, reason: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        document.validate(extension.Extension, record({"KEY": path}))
    [problem] = caught.value.problems
    assert problem.path == "services[0].credentials[0].files.KEY" and reason in problem.message


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"OTHER": "key"}, "have no 'OTHER'"),
        ({"KEY": "a", "TOKEN": "a"}, "in the place of that of 'KEY'"),
        ({"KEY": "a", "TOKEN": "A"}, "in the place of that of 'KEY'"),
        ({"KEY": "a/b", "TOKEN": "a"}, "in the place of that of 'KEY'"),
        ({"KEY": "a", "TOKEN": "a/b/c"}, "in the place of that of 'KEY'"),
    ],
)
def test_files_that_cannot_exist_are_refused(files: dict[str, str], reason: str) -> None:
    with pytest.raises(errors.InvalidError, match=reason):
        created(record(files))
    stored = created(record({}))
    with pytest.raises(errors.InvalidError, match=reason):
        registry.update(stored, extension.Extension.model_validate(record(files)), NOON, NEW_ID)


def test_a_change_must_leave_the_secret_of_a_file() -> None:
    stored = created(record({"KEY": "a"}))
    patch = {"id": "e", "services": [{"id": "s", "credentials": [{"id": "c", "configuration": {"TOKEN": "<hidden>"}}]}]}
    with pytest.raises(errors.InvalidError, match="have no 'KEY'"):
        registry.update(stored, extension.Extension.model_validate(patch), NOON, NEW_ID)


def test_a_file_is_bounded_and_a_set_has_few() -> None:
    with pytest.raises(errors.InvalidError, match="at most 65536 bytes"):
        created(record({"KEY": "a"}, KEY="x" * 100_000))
    with pytest.raises(errors.InvalidError):
        document.validate(extension.Extension, record({f"K{number}": f"f{number}" for number in range(21)}))


@given(st.lists(st.sampled_from(["a", "A", "a/b", "a/c", "ab", "b/a", "a/b/c"]), max_size=5))
def test_a_collision_is_found_exactly_where_files_cannot_be_beside_each_other(paths: list[str]) -> None:
    names = [(str(number), path) for number, path in enumerate(paths)]
    parents = [{str(parent).casefold() for parent in (PurePosixPath(path), *PurePosixPath(path).parents)} for path in paths]
    collides = any(paths[one].casefold() in parents[other] for one in range(len(paths)) for other in range(len(paths)) if one != other)
    assert (credential_files.collision(names) is not None) == collides


_STEP = "extensions:\n- {name: one, service_resource: x}\n- {name: two, service_resource: y}\n"


def planned(**two: object) -> plans.StepPlan:
    one = examples.binding("one", secret_keys=["KEY", "TOKEN"], secret_files={"KEY": "gcloud/key.json"})
    bindings = {"s": {"one": one, "two": examples.binding("two", credentials_id="other", **two)}}
    return examples.plan_of(
        loading.load(f"name: w\nsteps:\n- name: s\n  image: i:1\n  {_STEP.replace(chr(10), chr(10) + '  ')}"), bindings=bindings
    ).steps[0]


def test_a_step_gets_the_path_of_a_file_as_a_variable() -> None:
    step = planned(secret_keys=[])
    [key], [token] = examples.variables(step)["KEY"], examples.variables(step)["TOKEN"]
    assert isinstance(key, plans.SecretPart) and isinstance(token, plans.SecretPart)
    assert (key.path, token.path) == ("gcloud/key.json", "")
    assert plans.secret_files(step) == (key,)


def test_a_variable_that_another_selector_overrides_needs_no_file() -> None:
    assert plans.secret_files(planned(configuration={"KEY": "elsewhere"})) == ()


def test_two_credentials_with_one_path_are_refused() -> None:
    with pytest.raises(errors.InvalidError, match="cannot be beside each other"):
        planned(secret_keys=["OTHER"], secret_files={"OTHER": "gcloud"})
