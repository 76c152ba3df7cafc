"""The cache of steps: equal keys mean equal dependencies, and only steps with a known key are reused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import plans
from fuseml.domain.plans import replan, step_cache
from fuseml.domain.registry import selector
from tests.unit import model_fields
from tests.unit import workflow_examples as examples

SECRET = plans.SecretPart(extension="minio", service="s3", credentials="default", key="KEY")
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["builder:1", "builder:2"]),
    "command": st.lists(st.sampled_from(["run", "fast", ""]), max_size=2),
    "args": st.lists(st.sampled_from(["run", "fast", ""]), max_size=2),
    "script": st.sampled_from(["", "run", "run fast"]),
    "alpha": st.sampled_from(["1", "2", "", "minio/s3/default/KEY"]),
    "key": st.sampled_from(["KEY", "OTHER"]),
    "outputs": st.sets(st.sampled_from(["model", "metrics"])),
    "value": st.sampled_from(["1", "2"]),
    "content": st.sampled_from(["c" * 64, "d" * 64]),
    "version": st.sampled_from(["1.0", "2.0"]),
    "credentials": st.sampled_from(["default", "other"]),
    "devices": st.sampled_from([{}, {"nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "2"}, {"amd.com/gpu": "1"}]),
}
PER_RUN: dict[str, st.SearchStrategy[Any]] = {
    "run": st.sampled_from(["train-1", "train-2"]),
    "commit": st.sampled_from(["a" * 40, "b" * 40]),
    "ref": st.sampled_from(["refs/heads/main", "refs/heads/topic"]),
    "url": st.sampled_from(["http://one", "http://two"]),
    "retries": st.integers(0, 2),
    "timeout": st.sampled_from([None, 60]),
    "cpu": st.sampled_from(["1", "2"]),
    "revision": st.integers(1, 3),
}


def plan_of_one_step(drawn: Mapping[str, Any]) -> plans.Plan:
    """A plan of one caching step with the drawn values."""
    checkout = plans.Checkout(
        name="code", project="p", codeset="c", url=drawn["url"], ref=drawn["ref"], commit=drawn["commit"], path="/project"
    )
    step = plans.StepPlan(
        name="fit",
        image=plans.text(drawn["image"]),
        command=tuple(map(plans.text, drawn["command"])),
        args=tuple(map(plans.text, drawn["args"])),
        script=plans.text(drawn["script"]),
        variables=(
            plans.Variable(name="FUSEML_ALPHA", value=plans.text(drawn["alpha"])),
            plans.Variable(name="KEY", value=(SECRET.model_copy(update={"key": drawn["key"]}),)),
            plans.Variable(name="FUSEML_ENV_RUN", value=plans.text(drawn["run"])),
            plans.Variable(name="FUSEML_ENV_COMMIT", value=plans.text(drawn["commit"])),
        ),
        checkouts=(checkout,),
        outputs=tuple(plans.Output(name=name) for name in sorted(drawn["outputs"])),
        when=(plans.Condition(input=plans.text("1"), values=(plans.text(drawn["value"]),)),),
        retries=drawn["retries"],
        timeout=drawn["timeout"],
        resources=plans.Resources(requests={"cpu": drawn["cpu"]}, limits={"memory": f"{drawn['cpu']}Gi", **drawn["devices"]}),
        cache=plans.Caching(content={"/project": drawn["content"]}),
    )
    binding = examples.binding(
        "store", version=drawn["version"], credentials_id=drawn["credentials"], url=drawn["url"], revision=drawn["revision"]
    )
    return plans.Plan(
        id="1",
        run=drawn["run"],
        project="p",
        workflow="train",
        revision=drawn["revision"],
        steps=(step,),
        bindings=(plans.StepBinding(step="fit", binding=binding),),
    )


def key_of(drawn: Mapping[str, Any]) -> str:
    plan = plan_of_one_step(drawn)
    fingerprint = step_cache.fingerprint(plan, plan.steps[0], {})
    assert fingerprint is not None
    return step_cache.key(fingerprint)


@given(st.fixed_dictionaries(FIELDS), st.fixed_dictionaries(FIELDS), st.fixed_dictionaries(PER_RUN), st.fixed_dictionaries(PER_RUN))
def test_two_keys_are_equal_if_and_only_if_the_fingerprints_are(
    one: dict[str, Any], other: dict[str, Any], here: dict[str, Any], there: dict[str, Any]
) -> None:
    assert (key_of({**one, **here}) == key_of({**other, **there})) == (one == other)
    assert key_of({**one, **here}) == key_of({**one, **there})


@given(st.fixed_dictionaries({**FIELDS, **PER_RUN}))
def test_a_secret_counts_by_its_reference(drawn: dict[str, Any]) -> None:
    plan = plan_of_one_step(drawn)
    fingerprint = step_cache.fingerprint(plan, plan.steps[0], {})
    assert fingerprint is not None
    assert fingerprint["variable KEY"] == [[f"minio/s3/default/{drawn['key']}"]]
    # Text with the form of a reference is no secret.
    assert fingerprint["variable FUSEML_ALPHA"] == ([drawn["alpha"]] if drawn["alpha"] else [])
    assert "FUSEML_ENV" not in json.dumps(fingerprint)


DIGESTS = {"/project": "c" * 64, "/projectx": "c" * 64}
STORE = plans.Store(
    extension="minio", service="s3", resource="s3", url="http://minio", variables=(plans.Variable(name="KEY", value=(SECRET,)),)
)
OTHER_STORE = STORE.model_copy(update={"extension": "other"})
FULL = plans.StepPlan(
    name="fit",
    image=plans.text("builder:1"),
    runnable="runnable://p/fit/1.0.0",
    command=(plans.text("python"), plans.text("fit.py")),
    args=(plans.text("--fast"),),
    script=plans.text("run"),
    variables=(plans.Variable(name="FUSEML_ALPHA", value=plans.text("1")),),
    files=(plans.File(name="config", variable="FUSEML_CONFIG", text="depth: 3"),),
    checkouts=(
        plans.Checkout(
            name="code",
            project="p",
            codeset="c",
            url="http://one",
            ref="main",
            commit="a" * 40,
            path="/project",
            folder="churn",
            git=True,
            own="train",
        ),
    ),
    fetches=(
        plans.Fetch(
            name="data",
            address=plans.text("dataset://p/d/1"),
            asked="dataset://p/d@new",
            uri=plans.text("s3://d/1"),
            path="/data",
            stored=plans.text("dataset://p/copies/d/1"),
            store=STORE,
        ),
        plans.Fetch(name="more", address=plans.text("dataset://p/e/1"), path="/more", store=OTHER_STORE),
    ),
    outputs=(
        plans.Output(name="out", image=plans.ImageBuild(name=plans.text("model:1"), dockerfile=plans.text("Dockerfile")), type="integer"),
    ),
    collects=(
        plans.Collect(output="m", kind="model", name="m", path="out", format="onnx", store=STORE, copied=True),
        plans.Collect(output="n", kind="dataset", name="n", path="more", format="csv", store=OTHER_STORE, copied=True),
    ),
    needs=("prepare",),
    when=(plans.Condition(input=plans.text("1"), operator="notin", values=(plans.text("2"),)),),
    retries=1,
    timeout=60,
    resources=plans.Resources(requests={"cpu": "1"}, limits={"cpu": "2"}),
    approval=plans.Approval(
        message=plans.text("fit?"), when=(plans.Condition(input=plans.text("1"), operator="notin", values=(plans.text("2"),)),), expires=60
    ),
    cache=plans.Caching(paths=("src/**",), content=DIGESTS, not_reused="no cached execution of this step exists"),
    combination=plans.Combination(step="fit", values={"alpha": "1", "beta": "2"}, best=plans.Best(metric="r2", goal="max")),
)
STEP_FIELDS = sorted(model_fields.names(plans.StepPlan, plans.TextPart, plans.OutputPart, plans.SecretPart))


def keys_of_changes(name: str) -> set[str | None]:
    """The keys of the full step with one field changed in each way that the models allow."""
    keys: set[str | None] = set()
    for data in model_fields.changed(FULL.model_dump(mode="json"), name):
        with contextlib.suppress(pydantic.ValidationError):
            keys.add(step_key(plans.StepPlan.model_validate(data)))
    return keys


def step_key(changed: plans.StepPlan) -> str | None:
    fingerprint = step_cache.fingerprint(chain(changed), changed, {})
    return step_cache.key(fingerprint) if fingerprint is not None else None


@pytest.mark.parametrize("name", STEP_FIELDS)
def test_every_field_of_a_step_s_plan_is_in_the_key_or_listed_with_a_reason(name: str) -> None:
    parts = name.split(".")
    listed = any(".".join(parts[:length]) in step_cache.NOT_IN_KEY for length in range(1, len(parts) + 1))
    keys = keys_of_changes(name)
    assert keys, f"FULL does not set {name}"
    if listed:
        assert keys == {step_key(FULL)}
    else:
        assert step_key(FULL) not in keys, f"{name} is neither in the key nor in NOT_IN_KEY"


def test_the_reasons_name_fields_that_exist() -> None:
    assert step_cache.NOT_IN_KEY.keys() <= set(STEP_FIELDS)
    assert all(step_cache.NOT_IN_KEY.values())


def test_a_key_of_another_version_is_given_as_the_reason() -> None:
    plan = chain(step("a"))
    fingerprint = step_cache.fingerprint(plan, plan.steps[0], {})
    assert fingerprint is not None
    decided = step_cache.decide(plan, lambda _: None, lambda _: step_cache.Execution("w-1", fingerprint))
    assert reasons(decided) == {"a": "the key of w-1 was made by another version of FuseML"}


def step(name: str, *reads: str, **fields: object) -> plans.StepPlan:
    """A caching step that reads the output `out` of others."""
    values = [plans.Variable(name=f"FROM_{read}", value=(plans.OutputPart(step=read, output="out"),)) for read in reads]
    defaults = {
        "image": plans.text(f"{name}:1"),
        "variables": values,
        "outputs": [{"name": "out"}],
        "needs": reads,
        "cache": plans.Caching(),
    }
    return plans.StepPlan.model_validate({"name": name, **defaults, **fields})


def chain(*steps: plans.StepPlan, **outputs: plans.Value) -> plans.Plan:
    return plans.Plan(id="2", run="w-2", project="p", workflow="w", revision=1, steps=steps, outputs=outputs)


class Past:
    """An earlier run with executed steps."""

    def __init__(self, before: plans.Plan, **outputs: str) -> None:
        written = {name: {"out": text} for name, text in outputs.items()}
        self._keys = {step_cache.key_of_executed(before, name, written): replan.StepResult("w-1", written[name]) for name in written}
        self._last = {name: step_cache.fingerprint(before, before.step(name), written) for name in written}

    def decide(self, plan: plans.Plan) -> plans.Plan:
        return step_cache.decide(plan, self._keys.get, self._execution)

    def _execution(self, name: str) -> step_cache.Execution | None:
        fingerprint = self._last.get(name)
        return step_cache.Execution("w-1", fingerprint) if fingerprint is not None else None


def reasons(decided: plans.Plan) -> dict[str, str]:
    return {step.name: step.cache.not_reused for step in decided.steps if step.cache}


CHAIN = chain(step("a"), step("b", "a"), answer=(plans.OutputPart(step="b", output="out"),))


def test_an_unchanged_plan_is_reused_as_a_whole() -> None:
    decided = Past(CHAIN, a="from a", b="from b").decide(CHAIN)
    assert decided.steps == ()
    assert [(item.name, item.run, item.outputs) for item in decided.reused] == [
        ("a", "w-1", {"out": "from a"}),
        ("b", "w-1", {"out": "from b"}),
    ]
    assert decided.outputs == {"answer": plans.text("from b")}


def test_a_step_behind_an_executed_one_is_executed_with_that_reason() -> None:
    changed = chain(step("a", image=plans.text("a:2")), step("b", "a"), step("c", needs=("b",)), step("d"))
    decided = Past(chain(*CHAIN.steps, step("c", needs=("b",)), step("d")), a="from a", b="from b", c="", d="from d").decide(changed)
    assert reasons(decided) == {
        "a": "changed since w-1: image",
        "b": "it needs the outputs of step a, which runs",
        "c": "it waits for step b, which runs",
    }
    assert [item.name for item in decided.reused] == ["d"]


def test_a_step_runs_on_the_outputs_of_a_reused_step() -> None:
    decided = Past(CHAIN, a="from a").decide(CHAIN)
    [left] = decided.steps
    assert (left.name, left.needs) == ("b", ())
    assert left.variables[0].value == plans.text("from a")
    assert reasons(decided) == {"b": "no cached execution of this step exists"}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"image": plans.text("a:2"), "script": plans.text("other")}, "image, script"),
        ({"variables": (plans.Variable(name="FUSEML_ALPHA", value=plans.text("2")),)}, "variable FUSEML_ALPHA"),
        ({"command": tuple(map(plans.text, "ab")), "args": (plans.text("c"),)}, "command, args"),
        ({"outputs": (plans.Output(name="out"), plans.Output(name="more"))}, "outputs"),
        (
            {"variables": tuple(plans.Variable(name=f"V{n}", value=()) for n in range(7))},
            "variable V0, variable V1, variable V2, variable V3, variable V4 and 2 more",
        ),
    ],
)
def test_the_reason_names_the_changes(change: dict[str, object], names: str) -> None:
    decided = Past(CHAIN, a="x").decide(chain(step("a", **change)))
    assert reasons(decided) == {"a": f"changed since w-1: {names}"}


def watching(content: Callable[[str], str], *paths: str) -> plans.Plan:
    checkout = plans.Checkout(name="c", project="p", codeset="c", url="", ref="", commit="f" * 40, path="/project")
    plan = chain(step("a", checkouts=(checkout,), cache=plans.Caching(paths=paths)))
    return step_cache.with_content(plan, lambda item, globs: content(item.commit + ",".join(globs)))


def test_only_the_watched_content_counts() -> None:
    past = Past(watching(lambda watched: watched, "conda.yaml", "src/**"), a="env")
    assert past.decide(watching(lambda watched: watched, "conda.yaml", "src/**")).steps == ()
    assert reasons(past.decide(watching(lambda _: "other", "conda.yaml", "src/**"))) == {
        "a": "changed since w-1: content of conda.yaml, src/** in /project"
    }


def test_globs_that_match_no_file_never_make_a_step_look_unchanged() -> None:
    plan = watching(lambda _: "", "conda.yml")
    assert step_cache.key_of_executed(plan, "a", {"a": {"out": "x"}}) is None
    assert reasons(Past(CHAIN).decide(plan)) == {"a": "no file of p/c matches conda.yml"}


def test_a_step_without_all_its_outputs_gets_no_key() -> None:
    assert step_cache.key_of_executed(CHAIN, "a", {"a": {}}) is None
    assert step_cache.key_of_executed(CHAIN, "b", {"b": {"out": "x"}}) is None
    assert step_cache.key_of_executed(CHAIN, "b", {"a": {"out": "x"}, "b": {"out": "x"}}) is not None


def test_a_step_with_an_approval_is_never_reused() -> None:
    asking = chain(step("a", approval=plans.Approval()))
    assert reasons(Past(asking, a="x").decide(asking)) == {"a": "it asks for an approval each time"}


def test_a_step_without_a_cache_stays_as_it_is() -> None:
    plain = chain(step("a", cache=None))
    assert Past(CHAIN, a="x").decide(plain) == plain
    assert step_cache.without_reuse(plain, "no") == plain
    assert reasons(step_cache.without_reuse(CHAIN, "no")) == {"a": "no", "b": "no"}


def test_identity_and_version_of_a_binding_count() -> None:
    def bound(**fields: object) -> plans.Plan:
        binding: selector.Binding = examples.binding("store", **fields)
        return chain(step("a")).model_copy(update={"bindings": (plans.StepBinding(step="a", binding=binding),)})

    past = Past(bound(), a="x")
    assert past.decide(bound(url="http://elsewhere", revision=9)).steps == ()
    assert reasons(past.decide(bound(version="2.0.0"))) == {"a": "changed since w-1: version of extension store"}
    assert reasons(past.decide(bound(extension_id="other"))) == {"a": "changed since w-1: extension store"}


_files = st.dictionaries(
    st.sampled_from(["a", "b/c", "conda.yaml"]), st.tuples(st.sampled_from([0o100644, 0o100755]), st.sampled_from("12"))
)


@given(_files, _files)
def test_digests_differ_by_path_mode_and_content_of_files(one: dict[str, tuple[int, str]], other: dict[str, tuple[int, str]]) -> None:
    def digest(files: dict[str, tuple[int, str]], *globs: str) -> str:
        return step_cache.digest([(path, *rest) for path, rest in files.items()], globs)

    assert (digest(one) == digest(other)) == (one == other)
    assert (digest(one, "b/*") == digest(other, "b/*")) == (one.get("b/c") == other.get("b/c"))
    assert digest(dict(reversed(one.items()))) == digest(one)
    assert bool(digest(one, "conda.yaml")) == ("conda.yaml" in one)
