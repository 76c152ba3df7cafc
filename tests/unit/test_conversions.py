"""Conversions: a run copies an artifact to another store where a step reads it from there only."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import artifact, errors, plans
from fuseml.domain.plans import artifact_planning, conversions, locks, planning, replan, step_cache, transfers
from fuseml.domain.registry import extension, selector
from fuseml.domain.runnables import builtin, descriptor, steps
from fuseml.domain.workflows import artifact_rules, loading
from tests.unit import workflow_examples

DATA = f"dataset://demo/raw/cars/{workflow_examples.VERSION}"
RUN = "r" * 32

WORKFLOW = """
name: w
inputs: [{name: data}]
steps:
  - name: train
    image: fuseml.local/shell:1
    script: "true"
    retries: 2
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", access: reference, store: {extension_id: shelf}}}
    outputs:
      - {name: model, artifact: {kind: model, path: out/model, format: onnx, name: churn}}
      - {name: folds, artifact: {kind: dataset, path: folds, anonymous: true}}
  - name: serve
    image: fuseml.local/shell:1
    script: "true"
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", access: reference, store: {extension_id: shelf}}}
      - {name: data, artifact: {address: "{{ inputs.data }}", access: reference, store: {extension_id: shelf}}}
      - {name: here, artifact: {address: "{{ steps.train.outputs.model }}", access: reference, store: {extension_id: for-model}}}
"""


def plan_of(text: str = WORKFLOW, stores: artifact_planning.Stores | None = None, data: str = DATA) -> plans.Plan:
    return planning.build(
        loading.load(text),
        revision=1,
        run_id=RUN,
        run_name="w-1",
        project="demo",
        codesets={},
        inputs={"data": data} if "inputs:" in text.split("steps:", maxsplit=1)[0] else {},
        bindings={},
        stores=stores or workflow_examples.Stores(),
    )


def names(plan: plans.Plan) -> list[str]:
    return [step.name for step in plan.steps]


def environment(step: plans.StepPlan, outputs: dict[str, dict[str, str]] | None = None) -> dict[str, str]:
    values = transfers.converting(step, "demo", RUN)
    return {name: plans.evaluate(value, outputs or {}, lambda part: f"<{part.ref}>") for name, value in values.items()}


def test_a_copy_is_made_before_its_reader_and_the_plan_shows_it() -> None:
    plan = plan_of()
    assert names(plan) == ["train-data-copy", "train", "serve-model-copy", "serve"]
    copy, train = plan.step("train-data-copy"), plan.step("train")
    assert (copy.image, copy.runnable) == (plans.text(conversions.CONVERTER), builtin.address(builtin.by_name()["converter"]))
    [read], [written] = copy.fetches, copy.collects
    assert (read.address, read.store.name) == (plans.text(DATA), "minio/store")
    assert (written.kind, written.copied, written.anonymous, written.store.name) == ("dataset", True, False, "shelf/store")
    assert (copy.needs, copy.retries, train.needs) == ((), 2, ("train-data-copy",))
    assert [(item.binding.name, item.binding.extension_id) for item in plan.bindings if item.step == copy.name] == [
        ("input artifact", "minio"),
        ("output copy", "shelf"),
    ]


def test_the_reader_gets_the_artifact_with_the_place_and_the_account_of_the_copy() -> None:
    plan = plan_of()
    [fetch], own = plan.step("train").fetches, workflow_examples.variables(plan.step("train"))
    uri = (plans.OutputPart(step="train-data-copy", output="copy-uri"),)
    assert (fetch.address, fetch.uri, fetch.store.name) == (plans.text(DATA), uri, "shelf/store")
    assert (own["FUSEML_DATA"], own["FUSEML_DATA_URI"]) == (plans.text(DATA), uri)
    [secret] = own["AWS_SECRET_ACCESS_KEY"]
    assert isinstance(secret, plans.SecretPart)
    assert secret.extension == "shelf"


def test_steps_that_read_the_same_copy_share_it() -> None:
    plan = plan_of()
    assert set(plan.step("serve").needs) == {"train", "serve-model-copy", "train-data-copy"}
    assert [fetch.store.extension for fetch in plan.step("serve").fetches] == ["shelf", "shelf", "for-model"]


def test_an_artifact_of_an_earlier_step_is_copied_when_its_address_is_known() -> None:
    plan = plan_of()
    copy = plan.step("serve-model-copy")
    assert (copy.needs, copy.collects[0].kind) == (("train",), "model")
    outputs = {"train": {"model": "model://demo/churn/1"}}
    assert environment(copy, outputs)["FUSEML_FETCH_0_ADDRESS"] == "model://demo/churn/1"
    # In a store among those that the step reads, nothing is copied.
    here = plan.step("serve").fetches[2]
    assert here.uri == (plans.OutputPart(step="train", output="model-uri"),)


def test_only_the_conversion_has_the_accounts_of_both_stores() -> None:
    plan = plan_of()
    variables = environment(plan.step("train-data-copy"))
    assert variables["FUSEML_FETCH_0_STORE_VARIABLE_AWS_ACCESS_KEY_ID"] == "<minio/store/default-s3-account/AWS_ACCESS_KEY_ID>"
    assert variables["FUSEML_COLLECT_0_STORE_VARIABLE_AWS_ACCESS_KEY_ID"] == "<shelf/store/default-s3-account/AWS_ACCESS_KEY_ID>"
    train = {part.extension for part in plans.parts_of(plan.step("train")) if isinstance(part, plans.SecretPart)}
    assert "minio" not in train
    assert transfers.converting(plan.step("train"), "demo", RUN) == {}
    assert transfers.collecting(plan.step("train-data-copy"), "demo", RUN, "/w") == {}
    assert transfers.fetching(plan.step("train-data-copy"), "demo", {}) == {}


def test_the_token_of_a_conversion_is_its_own() -> None:
    class Stores(workflow_examples.Stores):
        def reader(self, wanted: selector.Selector) -> selector.Binding:
            return super().reader(wanted).model_copy(update={"configuration": {"MLFLOW_TRACKING_TOKEN": extension.STEP_TOKEN}})

    copy = plan_of(stores=Stores()).step("train-data-copy")
    tokens = {part.token_of for part in plans.parts_of(copy) if isinstance(part, plans.SecretPart) and part.token_of}
    assert tokens == {"train-data-copy"}
    assert plans.token_scopes(copy) == ["tracking"]


def test_an_anonymous_artifact_has_an_anonymous_copy_which_ends_with_its_run() -> None:
    document = WORKFLOW.replace(
        'outputs.model }}", access: reference, store: {extension_id: shelf}',
        'outputs.folds }}", access: reference, store: {extension_id: shelf}',
    )
    plan = plan_of(document)
    copy = plan.step("serve-model-copy")
    assert (copy.collects[0].copied, copy.collects[0].anonymous) == (False, True)
    assert (
        environment(copy, {"train": {"folds": "dataset://demo/anonymous/x/1"}})["FUSEML_COLLECT_0_NAME"]
        == f"anonymous/{RUN}/serve-model-copy/copy"
    )
    assert ("serve-model-copy", copy.collects[0]) in locks.anonymous(plan)
    assert "train-data-copy" not in {step for step, _ in locks.anonymous(plan)}


def test_a_known_copy_is_reused_by_later_runs_whatever_the_step_is_named() -> None:
    first, other = plan_of(), plan_of(WORKFLOW.replace("name: train", "name: fit").replace("steps.train", "steps.fit"))
    keys = []
    for plan, name in ((first, "train-data-copy"), (other, "fit-data-copy")):
        found = step_cache.fingerprint(plan, plan.step(name), {})
        assert found is not None
        keys.append(step_cache.key(found))
    assert keys[0] == keys[1]
    copied = replan.StepResult("w-0", {"copy": "dataset://demo/anonymous/copies/shelf/store/raw/cars/1", "copy-uri": "s3://shelf/1"})
    decided = step_cache.decide(first, lambda key: copied if key == keys[0] else None, lambda _: None)
    assert [item.name for item in decided.reused] == ["train-data-copy"]
    assert decided.step("train").fetches[0].uri == plans.text("s3://shelf/1")
    assert decided.step("train").needs == ()


class Mirrored(workflow_examples.Stores):
    """The project reads datasets from the store `shelf`."""

    def mirror(self, kind: str) -> selector.Selector | None:
        return selector.Selector(extension_id="shelf") if kind == "dataset" else None


PLAIN = """
name: w
inputs: [{name: data}]
steps:
  - name: train
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
      - {name: base, artifact: {address: "model://demo/base/1"}}
      - {name: rack, artifact: {address: "{{ inputs.data }}", access: reference, store: {extension_id: rack}}}
    outputs:
      - {name: folds, artifact: {kind: dataset, path: folds, anonymous: true}}
      - {name: table, artifact: {kind: dataset, path: table}}
  - name: use
    image: fuseml.local/shell:1
    inputs:
      - {name: folds, artifact: {address: "{{ steps.train.outputs.folds }}"}}
      - {name: table, artifact: {address: "{{ steps.train.outputs.table }}"}}
"""


def test_a_mirror_is_read_in_the_place_of_every_store_that_the_step_does_not_name() -> None:
    plan = plan_of(PLAIN, Mirrored())
    assert names(plan) == ["train-data-copy", "train-rack-copy", "train", "use-table-copy", "use"]
    data, base, rack = plan.step("train").fetches
    assert data.stored == (plans.OutputPart(step="train-data-copy", output="copy"),)
    assert (data.address, data.path, data.store.name) == (plans.text(DATA), "/data", "shelf/store")
    assert (base.stored, base.store.name, rack.store.name) == ((), "minio/store", "rack/store")
    values = transfers.fetching(plan.step("train"), "demo", {"data": "/d", "base": "/b"})
    assert values["FUSEML_FETCH_0_ADDRESS"] == data.stored
    assert values["FUSEML_FETCH_1_ADDRESS"] == base.address
    assert workflow_examples.variables(plan.step("train"))["FUSEML_DATA_ADDRESS"] == plans.text(DATA)
    # What is anonymous is read where its step has written it.
    folds, table = plan.step("use").fetches
    assert (folds.store.name, table.store.name) == ("for-dataset/store", "shelf/store")


def test_without_a_mirror_contents_are_read_where_they_are() -> None:
    assert names(plan_of(PLAIN)) == ["train-rack-copy", "train", "use"]


@pytest.mark.parametrize("changed", [DATA.replace("cars", "bikes"), DATA[:-1] + "b"])
def test_another_artifact_is_another_copy(changed: str) -> None:
    prints = [step_cache.fingerprint(plan, plan.step("train-data-copy"), {}) for plan in (plan_of(), plan_of(data=changed))]
    assert prints[0] is not None
    assert prints[0] != prints[1]


def test_a_run_lists_a_conversion_before_its_first_reader() -> None:
    plan = plan_of()
    assert conversions.listed(plan, ["train", "serve"]) == names(plan)
    assert conversions.listed(replan.up_to(plan, "train"), ["train", "serve"]) == ["train-data-copy", "train"]
    assert conversions.listed(replan.up_to(plan, "serve-model-copy"), ["train", "serve"])[-1] == "serve-model-copy"
    results = {"train-data-copy": replan.StepResult("w-0", {"copy": "c", "copy-uri": "u"})}
    assert conversions.listed(replan.reuse(plan, results), ["train", "serve"]) == names(plan)


def test_a_step_alone_has_the_copies_that_no_run_has_made() -> None:
    plan = plan_of()
    trained = {"train": replan.StepResult("w-0", {"model": "model://demo/churn/1", "model-uri": "s3://m/1"})}
    alone = replan.only(plan, "serve", trained)
    assert names(alone) == ["train-data-copy", "serve-model-copy", "serve"]
    copies = {name: replan.StepResult("w-0", {"copy": "c", "copy-uri": f"s3://{name}"}) for name in ("train-data-copy", "serve-model-copy")}
    [serve] = replan.only(plan, "serve", trained | copies).steps
    assert [fetch.uri for fetch in serve.fetches] == [
        plans.text("s3://serve-model-copy"),
        plans.text("s3://train-data-copy"),
        plans.text("s3://m/1"),
    ]


def test_the_name_of_a_conversion_is_free() -> None:
    document = WORKFLOW + '  - {name: train-data-copy, image: "i:1"}\n  - {name: train-data-copy-2, image: "i:1"}\n'
    assert plan_of(document).step("train").needs == ("train-data-copy-3",)


def test_combinations_share_a_copy() -> None:
    document = WORKFLOW.split("  - name: serve", maxsplit=1)[0].replace("retries: 2", "matrix: {values: {a: [1, 2]}}")
    document = document.split("    outputs:", maxsplit=1)[0]
    plan = plan_of(document)
    assert names(plan) == ["train-1-data-copy", "train-1", "train-2"]
    assert [plan.step(name).needs for name in ("train-1", "train-2")] == [("train-1-data-copy",)] * 2


def test_a_refusal_names_the_input_and_what_is_missing() -> None:
    class Stores(workflow_examples.Stores):
        def copied_to(self, kind: str, holder: selector.Binding, wanted: selector.Selector) -> selector.Binding | None:
            raise errors.InvalidError(f"no store for a copy of a {kind}")

    with pytest.raises(errors.InvalidError, match=r"step 'train', inputs\[0\].artifact: no store for a copy of a dataset"):
        plan_of(stores=Stores())


def test_the_converter_is_no_step_of_a_document() -> None:
    document = 'name: w\nsteps:\n  - {name: s, image: "ghcr.io/fuseml/converter:v1"}\n'
    with pytest.raises(errors.InvalidError, match=r"a run adds the converter where it is needed: name the stores"):
        plan_of(document)


def _with_runnable(artifact: str, accepts: str = "accepts: {store: {extension_id: shelf}}") -> plans.Plan:
    described = f"name: fit\nversion: 1.0.0\nimage: i:1\ninputs:\n  - {{name: data, type: dataset, {accepts}}}\n"
    registered = steps.Registered("runnable://demo/fit/1.0.0", descriptor.load(described))
    document = f"name: w\nsteps:\n  - name: s\n    runnable: fit\n    inputs:\n      - {{name: data, artifact: {artifact}}}\n"
    expansion = steps.expand(loading.load(document), {"s": registered})
    steps.check(expansion)
    return planning.build(
        expansion.workflow,
        revision=1,
        run_id=RUN,
        run_name="w-1",
        project="demo",
        codesets={},
        inputs={},
        bindings={},
        stores=workflow_examples.Stores(),
    )


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [
        (f'{{address: "{DATA}", access: reference}}', ["shelf"]),
        # The step may name other stores; contents come from every store.
        (f'{{address: "{DATA}", access: reference, store: {{extension_id: rack}}}}', ["rack"]),
        (f'{{address: "{DATA}", access: reference, store: {{extension_id: minio}}}}', []),
        (f'{{address: "{DATA}"}}', []),
    ],
)
def test_a_runnable_states_the_stores_that_it_reads(artifact: str, expected: list[str]) -> None:
    made = [step for step in _with_runnable(artifact).steps if conversions.is_conversion(step)]
    assert [item.collects[0].store.extension for item in made] == expected


@pytest.mark.parametrize(
    ("accepts", "message"),
    [
        ("accepts: {store: {product: '{{ inputs.data }}'}}", "a selector is plain text"),
        ("accepts: {store: {color: red}}", "color"),
    ],
)
def test_a_runnable_with_a_wrong_selector_of_stores_is_refused(accepts: str, message: str) -> None:
    with pytest.raises(errors.InvalidError, match=message):
        _with_runnable(f'{{address: "{DATA}"}}', accepts)


def test_only_artifacts_are_in_a_store() -> None:
    text = "name: fit\nversion: 1.0.0\nimage: i:1\ninputs:\n  - {name: rows, type: integer, accepts: {store: {product: minio}}}\n"
    with pytest.raises(errors.InvalidError, match=r"an? integer has no format, framework or store"):
        descriptor.load(text)


NAMES = st.lists(st.text("abc.-_", min_size=1, max_size=5), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["a/s", "b/s", "a/t"])), min_size=2, max_size=4, unique=True))
def test_copies_of_different_names_and_stores_never_meet_and_are_no_artifacts(items: Sequence[tuple[str, str]]) -> None:
    copies = [conversions.copy_name(store, name) for name, store in items]
    assert len(set(copies)) == len(items)
    for (name, store), copy in zip(items, copies, strict=True):
        address, source = artifact.Address("model", "demo", copy, "1"), artifact.Address("model", "demo", name, "7")
        assert conversions.is_copy(address, store, source)
        assert transfers.is_anonymous(artifact.Address.parse(str(address)))
        assert not conversions.is_copy(source, store, source)
        assert not conversions.is_copy(address, store, artifact.Address("model", "other", name, "7"))
        with pytest.raises(errors.InvalidError):
            artifact_rules.check_output_name("model", copy)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["minio", "shelf", "rack"])), min_size=1, max_size=6))
def test_there_is_one_conversion_for_each_artifact_and_store_that_differs(inputs: Sequence[tuple[str, str]]) -> None:
    listed = "\n".join(
        f'      - {{name: i{number}, artifact: {{address: "dataset://demo/{name}/1", access: reference, store: {{extension_id: {store}}}}}}}'
        for number, (name, store) in enumerate(inputs)
    )
    plan = plan_of(f"name: w\nsteps:\n  - name: s\n    image: i:1\n    inputs:\n{listed}\n")
    made = [step for step in plan.steps if conversions.is_conversion(step)]
    wanted = {pair for pair in inputs if pair[1] != "minio"}
    assert len(made) == len(wanted)
    assert set(plan.step("s").needs) == {step.name for step in made}
    assert all(
        (fetch.store.extension, bool(fetch.uri)) == (store, True) for fetch, (_, store) in zip(plan.step("s").fetches, inputs, strict=True)
    )
