"""Sources: which files are read, and the laws of ownership."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from fuseml.domain import errors
from fuseml.domain.documents import multiple
from fuseml.domain.sources import files, ownership, refusals

KEYS = strategies.tuples(strategies.sampled_from(files.KINDS), strategies.sampled_from("abc"))
OWNERS = strategies.builds(ownership.Owner, strategies.sampled_from(["own", "other"]), strategies.booleans())
SITUATIONS = strategies.tuples(
    strategies.sets(KEYS), strategies.sets(KEYS), strategies.dictionaries(KEYS, OWNERS), strategies.sets(KEYS, max_size=2)
)
Situation = tuple[set[ownership.Key], set[ownership.Key], dict[ownership.Key, ownership.Owner], set[ownership.Key]]


def executed(
    decision: ownership.Decision, present: set[ownership.Key], owners: dict[ownership.Key, ownership.Owner]
) -> tuple[set[ownership.Key], dict[ownership.Key, ownership.Owner]]:
    """What is present, and who owns it, after the steps."""
    present, owners = set(present), dict(owners)
    for step in decision.steps:
        if step.action in ("put", "adopt"):
            present.add(step.key)
            owners.setdefault(step.key, ownership.Owner("own", step.action == "adopt"))
        else:
            owners.pop(step.key)
            if step.action == "delete":
                present.remove(step.key)
    return present, owners


@hypothesis.given(SITUATIONS, strategies.booleans())
@hypothesis.example((set(), {("extension", "a")}, {("extension", "a"): ownership.Owner("own")}, {("extension", "a")}), False)
def test_a_source_touches_only_what_is_its_own(situation: Situation, adopt: bool) -> None:
    declared, present, owners, reserved = situation
    decision = ownership.decide("own", declared, present, owners, reserved=reserved, adopt=adopt)
    after, owned = executed(decision, present, owners)
    for key in {*present, *after, *owners, *owned}:
        owner = owners.get(key)
        if owner is not None and owner.source == "other":
            assert (key in after, owned.get(key)) == (key in present, owner)
        if key in reserved:
            assert (key in after) == (key in present)
        if key in present and (owner is None or owner.adopted):
            assert key in after, "what was made by hand is not deleted"
        if key in present and owner is None and not adopt:
            assert key not in owned


@hypothesis.given(SITUATIONS, strategies.booleans())
def test_without_a_refusal_everything_is_as_declared_and_a_repetition_does_the_same(situation: Situation, adopt: bool) -> None:
    declared, present, owners, reserved = situation
    decision = ownership.decide("own", declared, present, owners, reserved=reserved, adopt=adopt)
    assert not (decision.refusals and decision.steps)
    if decision.refusals:
        assert decision.refusals.keys() <= declared
        return
    after, owned = executed(decision, present, owners)
    assert declared <= after
    assert {key for key, owner in owned.items() if owner.source == "own"} == declared
    again = ownership.decide("own", declared, after, owned, reserved=reserved)
    assert ({step.action for step in again.steps} <= {"put"}, again.refusals) == (True, {})
    assert executed(again, after, owned) == (after, owned)


@hypothesis.given(SITUATIONS)
def test_things_are_made_before_what_needs_them_and_deleted_after_it(situation: Situation) -> None:
    declared, present, owners, _ = situation
    steps = ownership.decide("own", declared, present, owners, adopt=True).steps
    made = [files.KINDS.index(step.key[0]) for step in steps if step.action in ("put", "adopt")]
    gone = [files.KINDS.index(step.key[0]) for step in steps if step.action not in ("put", "adopt")]
    assert (made, gone) == (sorted(made), sorted(gone, reverse=True))
    assert [step.action in ("put", "adopt") for step in steps] == [True] * len(made) + [False] * len(gone)


@pytest.mark.parametrize(
    ("root", "path", "wanted"),
    [
        ("", "registry/a.yaml", True),
        ("", "registry/deep/er/a.yml", True),
        ("", "workflows/a.json", True),
        ("", "registry/a.txt", False),
        ("", "registry.yaml", False),
        ("", "a.yaml", False),
        ("", "registry/.hidden/a.yaml", False),
        ("fuseml", "fuseml/projects/a.yaml", True),
        ("fuseml", "fuseml-old/projects/a.yaml", False),
        ("fuseml", "registry/a.yaml", False),
    ],
)
def test_the_files_of_a_source_lie_in_its_folders(root: str, path: str, wanted: bool) -> None:
    assert files.is_wanted(root, path) is wanted


@pytest.mark.parametrize(("path", "expected"), [("", ""), ("/", ""), ("fuseml/", "fuseml"), ("./a//b/", "a/b")])
def test_a_path_has_one_form(path: str, expected: str) -> None:
    assert files.normalized(path) == expected


@pytest.mark.parametrize("path", ["../x", "a/../../b", "a\\b", "a\nb"])
def test_a_path_out_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(errors.InvalidError, match="no path in a repository"):
        files.normalized(path)


@hypothesis.given(
    strategies.dictionaries(strategies.sampled_from([f"{folder}/a.yaml" for folder in files.FOLDERS]), strategies.binary(max_size=40))
)
def test_any_bytes_are_items_or_faults(found: dict[str, bytes]) -> None:
    declared = files.read("", found)
    assert {refusal.file for refusal in declared.refusals} <= found.keys()
    assert {item.file for item in declared.items} <= found.keys()


def test_no_more_faults_are_listed_than_can_be_read() -> None:
    many = "\n---\n".join("nam: x" for _ in range(200)).encode()
    declared = files.read("", {"projects/a.yaml": many})
    assert len(declared.refusals) == refusals.MOST + 1
    assert declared.refusals[0].line == 1
    assert "more faults" in declared.refusals[-1].message


@pytest.mark.parametrize("document", ["name: p{number}", "# {number}\n'", "{number}"])
def test_reading_stops_at_the_most_documents_and_faults(document: str) -> None:
    many = "".join(f"--- {document.format(number=number)}\n" for number in range(40_000)).encode()
    declared = files.read("", {"projects/a.yaml": many, "projects/b.yaml": many})
    assert (len(declared.items), len(declared.refusals)) in ((0, 1), (0, refusals.MOST + 1))


@hypothesis.given(
    strategies.lists(strategies.sampled_from(["a: 1", "# none", "", "b:\n  - c", "---", "--- d", "--- |\n  e\n"]), max_size=12)
)
def test_every_document_of_a_text_keeps_its_lines(lines: list[str]) -> None:
    text = "\n".join(lines)
    for part in multiple.separate(text):
        assert text.split("\n")[part.lines_before :][: part.text.count("\n")] == part.text.split("\n")[:-1]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("projects/a\udcff.yaml", "name: a", "the path is not text in UTF-8"),
        ("projects/a\ufffd.yaml", "name: a", "the path is not text in UTF-8"),
        ("projects/a.yaml", 'name: a\ndescription: "x\\0"', "description: must not hold the NUL character"),
        ("workflows/a.yaml", 'name: a\nsteps: [{name: b, image: c, env: {"A\\0": d}}]', "must not hold the NUL character"),
        ("assignments/a.yaml", 'workflow: "a\\0"\npattern: model://*', "workflow: must not hold the NUL character"),
        ("registry/a.yaml", 'id: a\nservices: [{"\\0": b}]', "must not hold the NUL character"),
    ],
)
def test_text_that_no_database_holds_is_a_fault(path: str, text: str, message: str) -> None:
    [refusal] = files.read("", {path: text.encode()}).refusals
    assert message in refusal.message
    str(refusal).encode()
    assert "\0" not in str(refusal)
