"""Artifacts in steps: their rules, their parts of a plan, and the variables of the programs that move them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml import artifactstores
from fuseml.artifactstores import program
from fuseml.domain import artifact, errors, plans
from fuseml.domain.plans import artifact_planning, planning, replan, transfers
from fuseml.domain.registry import extension, selector
from fuseml.domain.workflows import artifact_rules, lint, loading
from tests.unit import workflow_examples

VERSION = "sha256:" + "a" * 64


def plan_of(text: str, inputs: Mapping[str, str] | None = None, stores: artifact_planning.Stores | None = None) -> plans.Plan:
    return planning.build(
        loading.load(text),
        revision=1,
        run_id="r" * 32,
        run_name="w-1",
        project="demo",
        codesets={},
        inputs=inputs or {},
        bindings={},
        stores=stores or workflow_examples.Stores(),
    )


WORKFLOW = """
name: w
inputs: [{name: data}]
outputs: [{name: model}]
steps:
  - name: train
    image: fuseml.local/shell:1
    script: "true"
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
    outputs:
      - {name: score}
      - {name: model, artifact: {kind: model, path: out/model, format: onnx, name: churn}}
      - {name: folds, artifact: {kind: dataset, path: folds, anonymous: true}}
  - name: use
    image: fuseml.local/shell:1
    script: "true"
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", access: reference}}
      - {name: the-folds, artifact: {address: "{{ steps.train.outputs.folds }}"}}
"""


def test_a_tag_becomes_a_version_and_both_are_in_the_plan() -> None:
    [fetch] = plan_of(WORKFLOW, {"data": "dataset://demo/patients@latest"}).step("train").fetches
    assert (fetch.address, fetch.asked) == (plans.text(f"dataset://demo/patients/{VERSION}"), "dataset://demo/patients@latest")
    assert (fetch.path, fetch.store.name, fetch.store.resource) == ("/data", "minio/store", "s3")


def test_the_artifacts_of_a_step_are_collected_into_the_store_of_their_kind() -> None:
    model, folds = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"}).step("train").collects
    assert (model.kind, model.name, model.path, model.format, model.store.extension) == ("model", "churn", "out/model", "onnx", "for-model")
    assert (folds.kind, folds.anonymous, folds.store.extension) == ("dataset", True, "for-dataset")


def test_a_later_step_reads_the_artifact_of_an_earlier_one_where_it_was_written() -> None:
    plan = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"})
    use, train = plan.step("use"), plan.step("train")
    model, folds = use.fetches
    assert use.needs == ("train",)
    assert folds.address == (plans.OutputPart(step="train", output="folds"),)
    assert (folds.path, folds.store.extension) == ("/artifacts/the-folds", "for-dataset")
    assert (model.path, model.uri) == ("", (plans.OutputPart(step="train", output="model-uri"),))
    # The URI is an output because a step needs it.
    assert [output.name for output in train.outputs] == ["score", "model", "folds", "model-uri"]


def test_a_step_gets_no_account_of_the_git_host_behind_a_store() -> None:
    binding = workflow_examples.binding("store", secret_keys=["AWS_SECRET_ACCESS_KEY", "FUSEML_GIT_TOKEN"])

    class Stores(workflow_examples.Stores):
        def reader(self, wanted: selector.Selector) -> selector.Binding:
            return binding

    plan = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"}, Stores())
    seen = {variable.name for variable in plan.step("use").variables}
    assert "AWS_SECRET_ACCESS_KEY" in seen
    assert "FUSEML_GIT_TOKEN" not in seen


def test_an_agent_is_planned_without_a_call_by_the_kinds_of_its_record() -> None:
    agent = {"service_resource": artifactstores.AGENT, "url": "http://192.0.2.1:1", "secret_keys": []}
    facts = artifactstores.facts(workflow_examples.binding("store", configuration={}, **agent))
    assert facts.kinds == set(artifact.KINDS)
    facts = artifactstores.facts(workflow_examples.binding("store", configuration={artifactstores.AGENT_KINDS: "dataset, model"}, **agent))
    assert facts.kinds == {"dataset", "model"}
    with pytest.raises(errors.InvalidError, match=r"FUSEML_ARTIFACT_KINDS of mlflow-0001 names the kind 'song'; the kinds are code"):
        artifactstores.facts(workflow_examples.binding("store", configuration={artifactstores.AGENT_KINDS: "song"}, **agent))


def test_a_step_sees_a_path_or_a_reference_with_the_account_of_the_store() -> None:
    plan = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"})
    train, use = (workflow_examples.variables(plan.step(name)) for name in ("train", "use"))
    assert (train["FUSEML_DATA"], train["FUSEML_DATA_ADDRESS"]) == (plans.text("/data"), plans.text(f"dataset://demo/x/{VERSION}"))
    assert train["TASK_RESULT"] == plans.text("score")
    assert not any(isinstance(part, plans.SecretPart) for value in train.values() for part in value)
    assert use["FUSEML_MODEL"] == (plans.OutputPart(step="train", output="model"),)
    assert use["FUSEML_THE_FOLDS"] == plans.text("/artifacts/the-folds")
    assert [part.key for part in use["AWS_SECRET_ACCESS_KEY"] if isinstance(part, plans.SecretPart)] == ["AWS_SECRET_ACCESS_KEY"]


def test_the_secrets_of_stores_are_secrets_of_the_run_and_never_text() -> None:
    plan = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"})
    refs = {part.ref for part in plans.secret_refs(plan)}
    assert "minio/store/default-s3-account/AWS_SECRET_ACCESS_KEY" in refs
    for store in plans.stores_of(plan.step("train")):
        assert all(isinstance(item.value[0], plans.SecretPart) for item in store.variables if item.name.startswith("AWS_"))


def test_the_token_of_a_step_opens_a_store_that_asks_for_it() -> None:
    store = plans.Store(
        extension="mlflow",
        service="tracking",
        resource="mlflow-tracking",
        url="http://x",
        variables=(plans.Variable(name="MLFLOW_TRACKING_TOKEN", value=(plans.step_token("train"),)),),
    )
    step = plans.StepPlan(name="train", image=plans.text("x"), fetches=(plans.Fetch(name="m", address=(), path="/m", store=store),))
    assert plans.token_scopes(step) == ["tracking"]
    assert extension.STEP_TOKEN not in step.model_dump_json()


def test_a_reused_step_gives_its_addresses_to_the_fetches_of_others() -> None:
    plan = plan_of(WORKFLOW, {"data": f"dataset://demo/x/{VERSION}"})
    outputs = {"model": "model://demo/churn/1", "folds": "dataset://demo/f/1", "model-uri": "s3://m/1", "score": "1"}
    model, folds = replan.resume(plan, {"train": replan.StepResult("w-0", outputs)}).step("use").fetches
    assert (model.address, model.uri, folds.address) == tuple(map(plans.text, ("model://demo/churn/1", "s3://m/1", "dataset://demo/f/1")))


def test_an_unknown_artifact_is_refused_with_the_place_of_its_input() -> None:
    with pytest.raises(errors.NotFoundError, match=r"step 'train', inputs\[0\].artifact: there is no artifact dataset://demo/gone"):
        plan_of(WORKFLOW, {"data": "dataset://demo/gone/1"})


def _input(**fields: object) -> str:
    return f"name: w\nsteps:\n  - name: s\n    image: i:1\n    inputs:\n      - {{name: data, artifact: {_flow(fields)}}}\n"


def _output(**fields: object) -> str:
    return f"name: w\nsteps:\n  - name: s\n    image: i:1\n    outputs:\n      - {{name: model, artifact: {_flow(fields)}}}\n"


def _flow(fields: Mapping[str, object]) -> str:
    import json

    return json.dumps(fields)


GOOD = f"dataset://demo/x/{VERSION}"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (_input(address="gas://demo/x/1"), "'gas' is no kind of artifact"),
        (_input(address="dataset://demo/x"), "it names no version"),
        (_input(address="code://demo/x/1"), "a codeset is checked out"),
        (_input(address="image://demo/x/1"), "an image is run"),
        (_input(address=GOOD, path="data"), "is not an absolute path"),
        (_input(address=GOOD, path="/a/../b"), "is not an absolute path"),
        (_input(address=GOOD, path="/"), "is not an absolute path"),
        (_input(address=GOOD, path="/data", access="reference"), "nothing is put at a path"),
        (_input(address=GOOD, store={"product": "{{ inputs.x }}"}), "a selector is plain text"),
        (_output(kind="gas", path="out"), "model"),
        (_output(kind="model", path="/out"), "is not a path below the folder"),
        (_output(kind="model", path="../out"), "is not a path below the folder"),
        (_output(kind="model", path="a/../../b"), "is not a path below the folder"),
        (_output(kind="model", path="."), "is not a path below the folder"),
        (_output(kind="model", path="out", name="a@b"), "marks a tag"),
        (_output(kind="model", path="out", name="anonymous/x"), "those of anonymous artifacts"),
        (_output(kind="model", path="out", name="x", anonymous=True), "an anonymous artifact has no name"),
    ],
)
def test_a_wrong_artifact_is_refused_with_its_line(document: str, message: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        loading.load(document)
    [problem] = caught.value.problems
    assert message in problem.message
    assert problem.line == 6 or (problem.line or 0) > 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ('- {name: a, artifact: {address: "%s", path: /data}}\n      - {name: b, artifact: {address: "%s", path: /data/b}}', "overlaps"),
        ('- {name: a, value: "1", artifact: {address: "%s"}}\n      - {name: b, artifact: {address: "%s"}}', "only one of them"),
        ('- {artifact: {address: "%s"}}\n      - {name: b, artifact: {address: "%s"}}', "is not a valid name"),
        ('- {name: a, artifact: {address: "%s"}}\n      - {name: a-address, artifact: {address: "%s"}}', "both become the variable"),
    ],
)
def test_inputs_that_contradict_each_other_are_refused(inputs: str, message: str) -> None:
    document = f"name: w\nsteps:\n  - name: s\n    image: i:1\n    inputs:\n      {inputs % (GOOD, GOOD)}\n"
    with pytest.raises(errors.InvalidError, match=message):
        loading.load(document)


def test_the_output_of_a_step_that_is_no_artifact_needs_a_store() -> None:
    document = WORKFLOW.replace("steps.train.outputs.model", "steps.train.outputs.score").replace(", access: reference", "")
    with pytest.raises(errors.InvalidError, match=r"is text, and its store is unknown before the run.*or name the store by `store`"):
        loading.load(document)
    named = document.replace('score }}"', 'score }}", store: {extension_id: shelf}')
    assert plan_of(named, {"data": GOOD}).step("use").fetches[0].store.extension == "shelf"


def test_a_step_that_builds_an_image_has_no_artifacts() -> None:
    document = _output(kind="model", path="out") + "      - {name: image, image: {name: x}}\n"
    with pytest.raises(errors.InvalidError, match="a step that builds an image has no artifacts"):
        loading.load(document)


def test_lint_finds_nothing_wrong_with_artifacts_that_are_used() -> None:
    assert [finding for finding in lint.lint_text(WORKFLOW) if finding.level != "note"] == []


def test_lint_names_what_moves_and_what_is_never_reused_with_their_lines() -> None:
    document = WORKFLOW.replace("{{ inputs.data }}", "dataset://demo/x@latest").replace(
        '    script: "true"', '    script: "true"\n    cache: true', 1
    )
    found = {(finding.level, finding.line): finding.message for finding in lint.lint_text(document)}
    assert "each run takes the version that dataset://demo/x@latest names" in found["note", 11]
    assert "makes an anonymous artifact" in found["warning", 9]


PARTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\\/"), min_size=1, max_size=8)


@given(st.lists(PARTS, min_size=1, max_size=5), st.booleans())
def test_an_output_path_is_one_below_the_folder_whatever_it_holds(parts: list[str], absolute: bool) -> None:
    path = ("/" if absolute else "") + "/".join(parts)
    inside = not absolute and ".." not in parts and any(part != "." for part in parts)
    assert artifact_rules.is_output_path(path) is inside


NAMES = st.text("abcXYZ_09", min_size=1, max_size=6).filter(lambda name: not name[0].isdigit())


@given(st.dictionaries(NAMES, st.text(max_size=5), max_size=4), st.integers(1, 4), st.text("ab/", max_size=5))
def test_a_program_reads_the_stores_that_the_plan_gives_it(variables: dict[str, str], number: int, url: str) -> None:
    store = plans.Store(
        extension="e",
        service="s",
        resource="folder",
        url=url,
        variables=tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in variables.items()),
    )
    fetches = tuple(
        plans.Fetch(name=f"i{index}", address=plans.text(f"dataset://p/d/{index}"), path=f"/i{index}", store=store)
        for index in range(number)
    )
    step = plans.StepPlan(name="s", image=plans.text("x"), fetches=fetches)
    values = transfers.fetching(step, "p", {fetch.name: f"/at{fetch.path}" for fetch in fetches})
    environment = {name: plans.evaluate(value, {}, plans.no_secret) for name, value in values.items()}
    read = program.read(environment, transfers.FETCH)
    assert [(item.facts["ADDRESS"], item.facts["TARGET"]) for item in read] == [(f"dataset://p/d/{i}", f"/at/i{i}") for i in range(number)]
    assert all(dict(item.connection.environment) == variables and item.connection.url == url for item in read)


def test_anonymous_artifacts_of_two_runs_have_different_names() -> None:
    step = plan_of(WORKFLOW, {"data": GOOD}).step("train")
    names = {
        plans.evaluate(transfers.collecting(step, "demo", run, "/w")["FUSEML_COLLECT_1_NAME"], {}, plans.no_secret)
        for run in ("a" * 32, "b" * 32, "a" * 32 + ".2")
    }
    assert names == {f"anonymous/{'a' * 32}/train/folds", f"anonymous/{'b' * 32}/train/folds"}


def test_the_programs_read_no_configuration_that_a_step_may_have_written() -> None:
    step = plan_of(WORKFLOW, {"data": GOOD}).step("train")
    for variables in (transfers.fetching(step, "demo", {"data": "/d"}), transfers.collecting(step, "demo", "a" * 32, "/w")):
        assert variables["AWS_CONFIG_FILE"] == variables["AWS_SHARED_CREDENTIALS_FILE"] == plans.text("/dev/null")
