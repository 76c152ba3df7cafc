"""Valid and invalid workflow documents; tests/golden/workflow_errors holds the problems of each invalid one.

`UPDATE_GOLDEN=1` rewrites the golden texts.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, workflows
from fuseml.domain.documents import document
from fuseml.domain.workflows import lint, loading, references
from tests import work
from tests.unit import workflow_examples as examples

REFUSED = sorted((examples.ROOT / "tests/golden/workflow_errors").glob("*.yaml"))


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_the_problems_of_each_invalid_document_equal_the_golden_text(path: Path) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        loading.load(path.read_text())
    text = "".join(f"{problem}\n" for problem in caught.value.problems)
    golden = path.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_text_has_its_document() -> None:
    assert {path.stem for path in REFUSED} == {path.stem for path in REFUSED[0].parent.glob("*.txt")}


def test_the_error_names_the_first_problem_and_counts_the_others() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        loading.load("name: example\nzzz: 1\nsteps: []\n")
    assert caught.value.message.startswith("the workflow is not valid: line 2, column 1: zzz: unknown key 'zzz'")
    assert caught.value.message.endswith("(and 1 more)")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("path", [*examples.DOCUMENTS, *examples.SHIPPED], ids=lambda path: path.stem)
def test_every_example_loads_and_can_be_stored(path: Path) -> None:
    loaded = loading.load(path.read_text())
    assert loaded.name
    stored = json.loads(json.dumps(loaded.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    assert workflows.Workflow.model_validate(stored) == loaded
    assert loading.check(document.Parsed(stored)) == loaded
    assert workflows.Workflow.model_validate_json(loaded.model_dump_json()) == loaded


@pytest.mark.parametrize("path", [*examples.DOCUMENTS, *examples.SHIPPED], ids=lambda path: path.stem)
def test_every_example_matches_the_schema_for_editors(path: Path) -> None:
    jsonschema.validate(yaml.load(path.read_text(), Loader=yaml.BaseLoader), _schema_of_text(loading.json_schema()))


REPEATED = """\
name: example
inputs: [{{name: rate, default: "1"}}, {{name: code, type: codeset}}{workflow}]
steps:
  - name: train
    image: registry.example.com/trainer:1
    inputs: [{{name: verbose, value: false}}, {{name: src, codeset: {{name: "{{{{ inputs.code }}}}", path: /src}}}}{step}]
"""


@pytest.mark.parametrize(
    ("workflow", "step", "error"),
    [
        ("", ", {name: verbose, value: false}", ""),
        ("", ", {name: verbose, value: 'false'}, {name: verbose, value: false}", ""),
        (', {name: rate, default: "1"}', "", ""),
        ("", ", {name: verbose, value: true}", "the input 'verbose' is repeated, in line 6 and line 6; rename or remove one"),
        ("", ", {name: verbose, value: false, file: true}", "the input 'verbose' is repeated"),
        ("", ', {name: src, codeset: {name: "{{ inputs.code }}", path: /src}}', "are checked out at the same path, /src (and 1 more)"),
        (', {name: rate, default: "2"}', "", "the input 'rate' is repeated"),
    ],
)
def test_an_input_may_be_repeated_with_the_same_value_only(workflow: str, step: str, error: str) -> None:
    text = REPEATED.format(workflow=workflow, step=step)
    if error:
        with pytest.raises(errors.InvalidError, match=re.escape(error)):
            loading.load(text)
        return
    found = [finding for finding in lint.lint_text(text) if "is repeated with the same value" in finding.message]
    assert {finding.level for finding in found} == {"warning"}
    assert len(found) == step.count("verbose") + workflow.count("rate")


def test_a_repeated_input_is_one_variable_of_the_step() -> None:
    plan = examples.plan_of(loading.load(REPEATED.format(workflow="", step=", {name: verbose, value: false}")))
    assert [variable.name for variable in plan.steps[0].variables].count("FUSEML_VERBOSE") == 1


def _schema_of_text(schema: Any) -> Any:
    # BaseLoader reads every scalar as text, so that dates and versions keep their spelling.
    if isinstance(schema, dict):
        adapted = {key: _schema_of_text(value) for key, value in schema.items() if key not in ("minimum", "maximum")}
        kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type")
        if isinstance(kinds, list) and {"integer", "number", "boolean", "null"} & set(kinds):
            adapted["type"] = "string"
        return adapted
    return [_schema_of_text(item) for item in schema] if isinstance(schema, list) else schema


def test_the_schema_refuses_unknown_keys_and_describes_itself() -> None:
    schema = loading.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == loading.SCHEMA_ID
    assert schema["additionalProperties"] is False
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    assert all("description" in definition for definition in definitions.values())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "steps": [{"name": "a", "image": "b", "imag": "c"}]}, schema)
    jsonschema.validate(
        {"name": "x", "steps": [{"name": "a", "image": "b", "timeout": "1h30m", "env": [{"name": "A", "value": 1}]}]}, schema
    )


def test_scalars_keep_their_spelling() -> None:
    body = "inputs:\n- {name: a, value: false}\n- {name: b, value: 1}\n- {name: c, value: 1.10}\n"
    body += "- {name: d, value: 2021-11-22}\n- {name: e, value: yes}"
    step = loading.load(examples.step(body)).steps[0]
    assert [item.value for item in step.inputs] == ["false", "1", "1.10", "2021-11-22", "yes"]


def test_a_version_keeps_its_trailing_zero() -> None:
    body = "extensions:\n- {name: store, version: 1.10}"
    assert loading.load(examples.step(body)).steps[0].extensions[0].version == "1.10"


def test_the_word_on_is_a_key_like_any_other() -> None:
    loaded = loading.load("on:\n  push:\n    refs: [main]\n" + examples.step())
    assert loaded.on == workflows.On(push=workflows.Push(refs=["main"]))


def test_a_list_without_a_value_is_empty() -> None:
    loaded = loading.load(examples.step("inputs:\nenv:\noutputs:", header="inputs:\noutputs:"))
    assert (loaded.inputs, loaded.outputs, loaded.steps[0].env) == ([], [], [])


def test_read_only_fields_of_a_document_are_ignored() -> None:
    header = 'created: "2021-11-22T11:19:46+01:00"\nrevision: 7'
    loaded = loading.load(examples.step("extensions:\n- {name: store, status: {url: 'http://x'}}", header=header))
    assert loaded == loading.load(examples.step("extensions:\n- {name: store}", header=""))
    assert "created" not in loaded.model_dump()
    assert "status" not in loaded.model_dump()["steps"][0]["extensions"][0]


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("90", 90), ("1d2h3m4s", 93_784), ("'45'", 45)]
)
def test_durations_become_seconds(text: str, expected: int) -> None:
    assert loading.load(examples.step(f"timeout: {text}")).steps[0].timeout == expected


@pytest.mark.parametrize("value", ["", "h", "1h30", "30 s", "-1", "1.5h", True, None, 1.5, "0s", 0, "367d", "s30"])
def test_invalid_durations_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not"):
        workflows.seconds(value)


def test_a_codeset_needs_no_name_and_accepts_every_reference_to_its_input() -> None:
    for name in ("'{{ inputs.code }}'", "'{{inputs.code}}'", "inputs.code", "code"):
        loaded = loading.load(examples.step(f"inputs:\n- codeset: {{name: {name}}}"))
        mount = loaded.steps[0].mounts[0]
        assert references.mounted_input(mount, {"code": True}) == "code"
        assert mount.path == "/project"


def test_steps_follow_their_dependencies_and_otherwise_keep_their_order() -> None:
    assert references.ordered({"a": ["c"], "b": [], "c": ["d"], "d": [], "e": []}) == ["b", "d", "c", "a", "e"]
    assert references.ordered({name: [] for name in "zyxw"}) == list("zyxw")


@given(
    st.integers(1, 40).flatmap(
        lambda size: st.lists(st.tuples(st.integers(0, size), st.integers(0, size)), max_size=80).map(lambda e: (size, e))
    )
)
def test_steps_that_wait_for_earlier_ones_keep_their_order(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = case
    waits: dict[str, list[str]] = {str(number): [] for number in range(size + 1)}
    for one, other in edges:
        if one != other:
            waits[str(max(one, other))].append(str(min(one, other)))
    assert references.ordered(waits) == list(waits)


_KEYS = [
    *workflows.Workflow.model_fields,
    *workflows.Step.model_fields,
    *workflows.When.model_fields,
    *workflows.StepInput.model_fields,
    "push",
    "refs",
    "zzz",
]
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_WORDS = st.sampled_from(
    ["train", "build", "x", "codeset", "{{ steps.build.outputs.x }}", "{{ inputs.x }}", "{{ inputs.x", "inputs.x", "0 3 * * *", "1h"]
)
_DATA = st.recursive(
    _SCALARS | _WORDS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), children, max_size=5),
    max_leaves=30,
)
_STEPS = st.lists(
    st.fixed_dictionaries(
        {"name": _WORDS, "image": _WORDS},
        optional={
            "inputs": st.lists(st.fixed_dictionaries({"name": _WORDS}, optional={"value": _WORDS, "codeset": _DATA}), max_size=3) | _DATA,
            "outputs": st.lists(st.fixed_dictionaries({"name": _WORDS}), max_size=2) | _DATA,
            "needs": st.lists(_WORDS, max_size=2),
            "resources": _DATA,
        },
    ),
    max_size=4,
)
_DOCUMENTS = st.fixed_dictionaries(
    {"name": _WORDS | _SCALARS, "steps": _STEPS | _DATA},
    optional={"inputs": st.lists(st.fixed_dictionaries({"name": _WORDS}, optional={"type": _WORDS}), max_size=3) | _DATA, "on": _DATA},
)


@settings(max_examples=300)
@given(_DOCUMENTS | _DATA)
def test_any_data_is_a_workflow_or_an_invalid_error_with_problems(data: object) -> None:
    try:
        loaded = loading.check(document.Parsed(data))
    except errors.InvalidError as error:
        assert error.problems
        assert all("\0" not in problem.path + problem.message for problem in error.problems if "\0" not in repr(data))
    else:
        assert loading.check(document.Parsed(loaded.model_dump(mode="json"))) == loaded


def test_hostile_nesting_is_refused() -> None:
    deep: object = "x"
    for _ in range(700):
        deep = [deep]
    data = {"name": "x", "steps": [{"name": "a", "image": "i:1", "inputs": [{"name": "v", "value": deep}]}], "zzz": deep}
    with pytest.raises(errors.InvalidError) as caught:
        loading.check(document.Parsed(data))
    assert {problem.path for problem in caught.value.problems} == {"steps[0].inputs[0].value", "zzz"}


def test_the_list_of_problems_is_bounded() -> None:
    steps = "".join(f"- {{name: S{number}, image: 'i:1'}}\n" for number in range(document.MAX_PROBLEMS + 20))
    with pytest.raises(errors.InvalidError) as caught:
        loading.load(f"name: x\nsteps:\n{steps}")
    assert len(caught.value.problems) == document.MAX_PROBLEMS + 1
    assert caught.value.problems[-1].message == "there are more problems; correct these and validate again"


@pytest.mark.parametrize(
    "step",
    [
        "- {name: s%d, image: '{{ steps.unknown-%d.outputs.x }}', needs: [nothing-%d]}",
        "- {name: s%d, image: 'i:1', env: [{name: A, value: '{{ inputs.x%d }}{{ inputs.y%d }}'}]}",
        "- {name: s%d, image: '{{{{ %d %d'}",
        # Every mistake is near to every name.
        "- {name: step-number-%d, image: '{{ steps.step-nummer-%d.outputs.x }}', needs: [step-nummer-%d]}",
        "- {name: s%d, image: 'i:1', inputs: [{codeset: {name: input%d, path: /a%d}}]}",
    ],
)
def test_a_huge_document_full_of_mistakes_is_refused_with_bounded_work(step: str) -> None:
    steps = "\n".join(step % (number, number, number) for number in range(1_500))
    inputs = "\n".join(f"- {{name: input-{number}, type: codeset}}" for number in range(4_000))
    with pytest.raises(errors.InvalidError), work.at_most(8_000_000):
        loading.load(f"name: x\ninputs:\n{inputs}\nsteps:\n{steps}\n")


def test_a_thousand_cycles_are_refused_with_bounded_work() -> None:
    pairs = [f"- {{name: {name}{n}, image: 'i:1', needs: [{other}{n}]}}" for n in range(900) for name, other in ("ab", "ba")]
    with pytest.raises(errors.InvalidError), work.at_most(8_000_000):
        loading.load("name: x\nsteps:\n" + "\n".join(pairs))


def test_suggestions_stop_when_a_document_has_too_many_names_and_mistakes() -> None:
    def suggestions(steps: int, mistakes: int) -> int:
        names = "".join(f"- {{name: step-{number}, image: 'i:1'}}\n" for number in range(steps))
        wrong = "".join(f"- {{name: wrong-{number}, image: 'i:1', needs: [stepp-{number}]}}\n" for number in range(mistakes))
        with pytest.raises(errors.InvalidError) as caught:
            loading.load(f"name: x\nsteps:\n{names}{wrong}")
        return sum(problem.suggestion is not None for problem in caught.value.problems)

    assert suggestions(steps=50, mistakes=document.MAX_PROBLEMS) == document.MAX_PROBLEMS
    assert 0 < suggestions(steps=1_500, mistakes=document.MAX_PROBLEMS) <= 20


def test_the_number_of_steps_is_limited() -> None:
    steps = "".join(f"- {{name: s{number}, image: 'i:1'}}\n" for number in range(2_001))
    with pytest.raises(errors.InvalidError, match="at most 2000 steps; this one has 2001"):
        loading.load(f"name: x\nsteps:\n{steps}")


@settings(max_examples=100)
@given(st.text(alphabet="name:steps-image \n{}[]'\"|>&*!#?x1", max_size=80))
def test_any_text_is_a_workflow_or_an_invalid_error(text: str) -> None:
    try:
        loading.load(text)
    except errors.InvalidError as error:
        assert error.message
