"""From a loaded workflow to a plan: typed values, environments by precedence, dependencies of steps, and refusals."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, plans, workflows
from fuseml.domain.documents import document
from fuseml.domain.plans import planning, run_inputs
from fuseml.domain.registry import selector
from fuseml.domain.workflows import loading
from tests.unit import model_fields
from tests.unit import workflow_examples as examples

STEP_FIELDS = sorted(model_fields.names(workflows.Step))
PARAMETERS = next(path for path in examples.SHIPPED if path.stem == "mlflow-e2e")
"""A workflow that takes undeclared inputs."""
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def planned_step(body: str, **options: object) -> plans.StepPlan:
    """The plan of the one step that `body` describes."""
    return examples.plan_of(loading.load(examples.step(body)), **options).steps[-1]  # type: ignore[arg-type]


def secret(key: str, **ids: str) -> plans.SecretPart:
    known = {"extension": "mlflow-0001", "service": "mlflow-store", "credentials": "default-s3-account"}
    return plans.SecretPart(**{**known, **ids}, key=key)


@pytest.mark.parametrize("path", [*examples.DOCUMENTS, *examples.SHIPPED], ids=lambda path: path.stem)
def test_every_example_is_planned_and_survives_the_store(path: Path) -> None:
    workflow = loading.load(path.read_text())
    values = {item.name: "given" for item in workflow.inputs if not item.is_optional and not item.is_codeset}
    plan = examples.plan_of(workflow, inputs=values)
    assert plans.Plan.model_validate_json(plan.model_dump_json()) == plan
    assert {step.name for step in plan.steps} == set(workflow.executed)
    assert [(item.step, item.binding.name) for item in plan.bindings] == [
        (name, bound) for step in workflow.steps for name in step.combinations or [step.name] for bound in _bound(step)
    ]


def _bound(step: workflows.Step) -> list[str]:
    """The names of a step's bindings: its extensions, and the stores of its artifacts."""
    read = [f"input {item.name}" for item in step.inputs if item.artifact]
    made = [f"output {item.name}" for item in step.outputs if item.artifact]
    return [*(item.name for item in step.extensions), *read, *made]


def test_a_plan_carries_the_identity_of_its_run() -> None:
    plan = examples.plan_of(examples.named("mlflow-e2e"), inputs={"predictor": "sklearn"})
    assert (plan.run, plan.workflow, plan.revision, plan.project) == ("mlflow-e2e-7", "mlflow-e2e", 3, "workspace")
    assert plan.inputs == {"predictor": "sklearn"}
    assert plan.outputs == {"prediction-url": (plans.OutputPart(step="predictor", output="prediction-url"),)}


def test_references_become_typed_parts() -> None:
    builder, trainer, predictor = examples.plan_of(examples.named("mlflow-e2e")).steps
    assert builder.image == plans.text("ghcr.io/fuseml/mlflow-builder:v0.1")
    assert trainer.image == (plans.OutputPart(step="builder", output="image"),)
    variables = examples.variables(predictor)
    assert variables["FUSEML_MODEL"] == (plans.OutputPart(step="trainer", output="mlflow-model-url"),)
    assert variables["FUSEML_PREDICTOR"] == plans.text("auto")
    assert [step.needs for step in (builder, trainer, predictor)] == [(), ("builder",), ("trainer",)]


def test_an_output_keeps_the_text_around_it() -> None:
    converter = examples.plan_of(examples.named("mlflow-ovms-e2e")).step("converter")
    model = plans.OutputPart(step="trainer", output="mlflow-model-url")
    assert examples.variables(converter)["FUSEML_OUTPUT_MODEL"] == (model, plans.TextPart(text="/ovms"))
    assert examples.variables(converter)["S3_ENDPOINT"] == plans.text("http://mlflow-minio.mlflow:9000")
    assert examples.variables(converter)["FUSEML_BATCH"] == plans.text("1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ inputs.predictor }}", "auto"),
        ("{{inputs.predictor}}", "auto"),
        ("inputs.predictor", "auto"),
        ("inputs.nothing", "inputs.nothing"),
        ("{{ inputs.code.name }}", "mlflow-test"),
        ("{{ inputs.code.project }}", "workspace"),
        ("{{ inputs.code.version }}", examples.COMMIT),
        ("v-{{ inputs.code.version }}-{{ inputs.predictor }}", f"v-{examples.COMMIT}-auto"),
        ("{{ extension.store.url }}", "http://mlflow-minio.mlflow:9000"),
        ("{{ extensions.store.version }}", "1.19.0"),
        ("{{ extension.store.zone }}", "cluster-alpha"),
        ("{{ extension.store.product }}", "mlflow"),
        ("{{ extension.store.service_resource }}", "s3"),
        ("{{ extension.store.service_category }}", "model-store"),
        ("{{ extension.store.cfg.MLFLOW_S3_ENDPOINT_URL }}", "http://mlflow-minio.mlflow:9000"),
        ('{"requests": {"cpu": 1}}', '{"requests": {"cpu": 1}}'),
        ("{{ '{{' }} x }}", "{{ x }}"),
    ],
)
def test_a_value_that_is_known_before_the_run_becomes_one_text(text: str, expected: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    step = planned_step(f"extensions:\n- name: store\ninputs:\n- name: x\n  value: {quoted}")
    assert examples.variables(step)["FUSEML_X"] == plans.text(expected)


def test_a_secret_key_becomes_a_secret_part_wherever_it_is_allowed() -> None:
    plan = examples.plan_of(examples.named("registry-selectors"), bindings=_example_bindings())
    mapped = examples.variables(plan.step("mapped-to-variables"))
    assert mapped["S3_SECRET_ACCESS_KEY"] == mapped["AWS_SECRET_ACCESS_KEY"] == (secret("AWS_SECRET_ACCESS_KEY"),)
    assert mapped["MLFLOW_TRACKER_URL"] == plans.text("http://mlflow.mlflow")
    assert examples.variables(plan.step("mapped-to-inputs"))["FUSEML_S3_ACCESS_KEY"] == (secret("AWS_ACCESS_KEY_ID"),)
    assert {part.key for part in plans.secret_refs(plan)} == set(STORE_KEYS)


def _example_bindings() -> dict[str, dict[str, selector.Binding]]:
    tracking = {
        "service_id": "mlflow-tracking",
        "service_resource": "mlflow-tracking",
        "url": "http://mlflow.mlflow",
        "credentials_id": "",
        "configuration": {"MLFLOW_TRACKING_URI": "http://mlflow.mlflow"},
        "secret_keys": [],
    }
    bound = {}
    for step in examples.named("registry-selectors").steps:
        names = [item.name for item in step.extensions]
        bound[step.name] = {name: examples.binding(name, **(tracking if name == "experiment-tracking" else {})) for name in names}
    return bound


def test_the_environment_lists_each_variable_once_in_a_fixed_order() -> None:
    step = planned_step(
        "inputs:\n- {name: my-input, value: a}\n- {codeset: {name: code}}\noutputs:\n- {name: model}\n- {name: metrics}\n"
        "extensions:\n- {name: store}\nenv:\n- {name: LEVEL, value: debug}"
    )
    assert [variable.name for variable in step.variables] == [
        "FUSEML_MY_INPUT",
        "TASK_RESULT",
        "FUSEML_ENV_WORKFLOW_NAMESPACE",
        "FUSEML_ENV_WORKFLOW_NAME",
        "FUSEML_ENV_RUN",
        "FUSEML_ENV_STEP",
        "FUSEML_ENV_PROJECT",
        "FUSEML_ENV_CODESET",
        "FUSEML_ENV_COMMIT",
        "MLFLOW_S3_ENDPOINT_URL",
        *STORE_KEYS,
        "LEVEL",
    ]
    variables = examples.variables(step)
    assert variables["TASK_RESULT"] == plans.text("model")
    assert variables["FUSEML_ENV_RUN"] == plans.text("example-7")
    assert variables["FUSEML_ENV_WORKFLOW_NAMESPACE"] == plans.text("fuseml-workloads")
    assert variables["FUSEML_ENV_COMMIT"] == plans.text(examples.COMMIT)


def test_a_later_selector_overrides_an_earlier_one_and_env_overrides_all() -> None:
    body = "extensions:\n- {name: one}\n- {name: two}\nenv:\n- {name: C, value: step}\n- {name: FUSEML_X, value: step}\n"
    body += "inputs:\n- {name: x, value: a}"
    one = examples.binding("one", configuration={"A": "1", "B": "1", "C": "1"}, secret_keys=["S"])
    two = examples.binding("two", credentials_id="other", configuration={"B": "2", "C": "2"}, secret_keys=["S", "A"])
    variables = examples.variables(planned_step(body, bindings={"train": {"one": one, "two": two}}))
    assert variables["A"] == (secret("A", credentials="other"),)
    assert variables["B"] == plans.text("2")
    assert variables["C"] == plans.text("step")
    assert variables["S"] == (secret("S", credentials="other"),)
    assert variables["FUSEML_X"] == plans.text("step")


def test_a_step_without_a_codeset_gets_the_variables_of_the_first_codeset_of_the_workflow() -> None:
    variables = examples.variables(planned_step("outputs: []"))
    assert variables["FUSEML_ENV_CODESET"] == plans.text("mlflow-test")
    assert "TASK_RESULT" not in variables
    bare = examples.plan_of(loading.load(examples.step(header=""))).steps[0]
    assert "FUSEML_ENV_CODESET" not in examples.variables(bare)
    assert examples.variables(bare)["FUSEML_ENV_PROJECT"] == plans.text("workspace")


def test_a_codeset_is_checked_out_at_its_commit() -> None:
    (checkout,) = planned_step("inputs:\n- codeset: {name: '{{ inputs.code }}', path: '/{{ inputs.predictor }}'}").checkouts
    assert (checkout.name, checkout.project, checkout.codeset) == ("code", "workspace", "mlflow-test")
    assert (checkout.commit, checkout.ref, checkout.path) == (examples.COMMIT, "refs/heads/main", "/auto")


def test_an_image_output_is_built_and_referred_to_by_its_name() -> None:
    builder, trainer = examples.plan_of(examples.named("image-output")).steps
    name = plans.text(f"registry.fuseml-registry/mlflow/mlflow-test:{examples.COMMIT}")
    image = builder.outputs[0].image
    assert image is not None
    assert (image.name, image.dockerfile) == (name, plans.text("/project/.fuseml/Dockerfile"))
    assert trainer.image == name
    assert trainer.needs == ("builder",), "a step waits for its image although the image's name is known"
    assert "TASK_RESULT" not in examples.variables(builder)


def test_every_optional_field_reaches_the_plan() -> None:
    plan = examples.plan_of(examples.named("every-field"))
    check, release = plan.step("check"), plan.step("release")
    assert plan.timeout == 6 * 3600
    assert (check.command, check.args) == ((plans.text("python"), plans.text("-c")), (plans.text("print('ok')"), plans.text("0.9")))
    assert check.timeout == 90
    assert plan.step("notes").script == plans.text(f'echo "mlflow-test at {examples.COMMIT}"\n')
    assert plan.step("notes").cache == plans.Caching(paths=("conda.yaml",))
    assert check.cache == plans.Caching()
    assert release.cache is None
    assert release.needs == ("notes", "check")
    assert release.when == (
        plans.Condition(
            input=(plans.OutputPart(step="check", output="verdict"),), operator="in", values=(plans.text("good"), plans.text("0.9"))
        ),
    )
    assert (release.retries, release.timeout) == (2, 5400)
    assert release.approval == plans.Approval(
        message=plans.text("release mlflow-test?"),
        when=(plans.Condition(input=(plans.OutputPart(step="check", output="verdict"),), operator="notin", values=(plans.text("good"),)),),
        expires=172_800,
    )
    assert release.resources.limits == {"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": "1"}


def test_every_field_of_a_step_is_checked_for_its_effect() -> None:
    assert {"needs", "when.operator", "inputs.codeset.path", "cache.paths", "extensions.healthy"} <= set(STEP_FIELDS)


@pytest.mark.parametrize("name", STEP_FIELDS)
def test_every_field_of_a_step_changes_its_plan(name: str) -> None:
    data: Any = document.parse((examples.ROOT / "tests/golden/workflows/every-field.yaml").read_text()).data
    changed = list(model_fields.changed(data, f"steps.{name}"))
    assert changed, f"tests/golden/workflows/every-field.yaml sets {name} in no step"
    results = [result for result in map(selectors_and_plan, changed) if result is not None]
    assert any(result != selectors_and_plan(data) for result in results), f"nothing obeys the field {name} of a step"


def selectors_and_plan(data: dict[str, object]) -> object:
    """Everything that a run takes from the workflow; None for a workflow that is refused."""
    try:
        workflow = loading.check(document.Parsed(data))
        return planning.selectors(workflow), examples.plan_of(workflow)
    except errors.InvalidError:
        return None


def test_steps_come_in_the_order_in_which_they_can_run() -> None:
    text = "name: example\nsteps:\n- {name: a, image: 'i:1', needs: [c]}\n- {name: b, image: 'i:1'}\n- {name: c, image: 'i:1'}\n"
    assert [step.name for step in examples.plan_of(loading.load(text)).steps] == ["b", "c", "a"]


def test_an_expression_in_a_given_value_is_only_text() -> None:
    step = planned_step("inputs:\n- {name: x, value: '{{ inputs.predictor }}'}", inputs={"predictor": "{{ extension.store.cfg.TOKEN }}"})
    assert examples.variables(step)["FUSEML_X"] == plans.text("{{ extension.store.cfg.TOKEN }}")


def test_the_selectors_to_resolve_are_listed_by_step() -> None:
    selectors = planning.selectors(examples.named("mlflow-multi-e2e"))
    assert list(selectors) == ["ovms-predictor", "kserve-predictor", "seldon-predictor"]
    assert [item.service_resource for item in selectors["kserve-predictor"]] == ["s3", "kserve-api"]
    assert run_inputs.codesets(examples.named("mlflow-multi-e2e")) == ["mlflow-codeset"]


def test_missing_and_unknown_inputs_are_named_together() -> None:
    workflow = loading.load(examples.step(header="inputs: [{name: predictor}, {name: rate}, {name: level, default: 1}]"))
    with pytest.raises(errors.InvalidError) as caught:
        examples.plan_of(workflow, inputs={"predictr": "x", "rate": "0.1"})
    assert [str(problem) for problem in caught.value.problems] == [
        "inputs.predictor: this input has no default, and no value was given",
        "inputs.predictr: workflow 'example' has no such input (did you mean 'predictor'?)",
    ]
    assert "inputs.predictor" in caught.value.message


def test_missing_and_unknown_codesets_are_named() -> None:
    workflow = loading.load(examples.step(header="inputs: [{name: code, type: codeset}]"))
    version = planning.CodesetVersion(project="p", codeset="c", url="u", ref="refs/heads/main", commit="0")
    with pytest.raises(errors.InvalidError) as caught:
        planning.build(workflow, revision=1, run_id="0", run_name="x-1", project="p", codesets={"cod": version}, inputs={}, bindings={})
    assert [problem.path for problem in caught.value.problems] == ["inputs.code", "inputs.cod"]
    assert caught.value.problems[1].suggestion == "code"


def test_a_codeset_input_takes_no_value() -> None:
    with pytest.raises(errors.InvalidError, match=r"inputs\.code: workflow 'example' has no such input"):
        planned_step("", inputs={"code": "x"})


def test_a_selector_without_a_binding_is_unresolved() -> None:
    with pytest.raises(errors.UnresolvedError, match="train/store") as caught:
        planned_step("extensions:\n- {name: store}", bindings={})
    assert caught.value.details["unresolved"] == ["train/store"]


def test_faults_that_only_the_values_of_a_run_reveal_are_refused_with_their_place() -> None:
    body = (
        "extensions:\n- {name: store}\n"
        "inputs:\n- {name: a, value: '{{ extension.store.cfg.AWS_ACCES_KEY_ID }}'}\n- {codeset: {name: code, path: '{{ inputs.predictor }}'}}\n"
        "resources: {limits: {cpu: '{{ inputs.predictor }}'}}"
    )
    with pytest.raises(errors.InvalidError) as caught:
        planned_step(body)
    problems = {problem.path: problem for problem in caught.value.problems}
    assert set(problems) == {"steps[0].inputs[1].codeset.path", "steps[0].resources.limits.cpu", "steps[0].extensions"}
    assert problems["steps[0].extensions"].suggestion == "AWS_ACCESS_KEY_ID"
    assert "mlflow-0001/mlflow-store" in problems["steps[0].extensions"].message


def test_an_unsound_workflow_is_refused_instead_of_planned_wrongly() -> None:
    unsound = workflows.Workflow.model_validate({"name": "x", "steps": [{"name": "a", "image": "{{ steps.b.outputs.c }}"}]})
    with pytest.raises(errors.InvalidError, match="there is no step 'b'"):
        examples.plan_of(unsound)
    early = {"name": "a", "image": "i:1", "outputs": [{"name": "c"}]}
    late = {"name": "b", "image": "i:1", "resources": {"limits": {"cpu": "{{ steps.a.outputs.c }}"}}}
    with pytest.raises(errors.InvalidError, match="must be known before the run starts"):
        examples.plan_of(workflows.Workflow.model_validate({"name": "x", "steps": [early, late]}))


_NAMES = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=6), min_size=1, max_size=8, unique=True)


@st.composite
def _workflows(draw: st.DrawFn) -> dict[str, object]:
    names = draw(_NAMES)
    steps: list[dict[str, object]] = []
    for index, name in enumerate(names):
        above = names[:index]
        sources = ["{{ inputs.x }}", "inputs.x", "{{inputs.code.version}}", "{{ extension.store.cfg.AWS_ACCESS_KEY_ID }}", "a b", ""]
        sources += [f"{{{{ steps.{other}.outputs.o }}}}" for other in above] + [f"t/{{{{steps.{other}.outputs.i}}}}" for other in above]
        step: dict[str, object] = {
            "name": name,
            "image": draw(st.sampled_from(["i:1", *[f"{{{{ steps.{other}.outputs.i }}}}" for other in above]])),
            "inputs": [{"name": f"n{n}", "value": value} for n, value in enumerate(draw(st.lists(st.sampled_from(sources), max_size=3)))],
            "outputs": [{"name": "o"}, {"name": "i", "image": {"name": f"r/{name}:1"}}],
            "extensions": [{"name": "store"}],
        }
        if above:
            step["needs"] = draw(st.lists(st.sampled_from(above), max_size=2))
        steps.append(step)
    return {
        "name": "w",
        "inputs": [{"name": "x", "default": "d"}, {"name": "code", "type": "codeset"}],
        "steps": draw(st.permutations(steps)),
    }


@settings(max_examples=150)
@given(_workflows())
def test_plans_are_deterministic_acyclic_and_complete_and_survive_the_store(data: dict[str, object]) -> None:
    try:
        workflow = loading.check(document.Parsed(data))
    except errors.InvalidError as error:
        assert all("refers to a later step" in problem.message for problem in error.problems)
        return
    plan = examples.plan_of(workflow)
    assert examples.plan_of(workflows.Workflow.model_validate_json(workflow.model_dump_json())) == plan
    assert plans.Plan.model_validate_json(plan.model_dump_json()) == plan
    done: set[str] = set()
    for step in plan.steps:
        assert done >= set(step.needs)
        assert done >= {part.step for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)}
        names = [variable.name for variable in step.variables]
        assert len(names) == len(set(names))
        done.add(step.name)
    assert done == {step.name for step in workflow.steps}


def test_a_step_runs_in_the_folder_of_its_codeset() -> None:
    step = planned_step("inputs: [{codeset: {name: code, folder: ./services/churn/}}]")
    assert (step.checkouts[0].folder, step.checkouts[0].directory) == ("services/churn", "/project/services/churn")
    assert examples.variables(step)["FUSEML_ENV_FOLDER"] == plans.text("services/churn")
    whole = planned_step("inputs: [{codeset: {name: code}}]")
    assert (whole.checkouts[0].directory, "FUSEML_ENV_FOLDER" in examples.variables(whole)) == ("/project", False)


def test_undeclared_inputs_are_parameters_where_the_workflow_takes_them() -> None:
    shipped = loading.load(PARAMETERS.read_text())
    plan = examples.plan_of(shipped, inputs={"alpha": "0.5", "note": "a b", "parameters": "alpha=1 depth=3"})
    assert plan.inputs == {"parameters": "alpha=0.5 depth=3 'note=a b'"}
    trainer = next(step for step in plan.steps if step.name == "trainer")
    assert examples.variables(trainer)["FUSEML_PARAMETERS"] == plans.text(plan.inputs["parameters"])
    assert examples.plan_of(shipped).inputs == {"parameters": ""}


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ({"paramaters": "a=1"}, "write -i 'parameters=paramaters=VALUE' (did you mean 'parameters'?)"),
        ({"a b": "1"}, "the name of a parameter has letters, digits"),
        ({"parameters": "a"}, "'a' is not name=value"),
        ({"parameters": "a='"}, "cannot be split into name=value pairs"),
    ],
)
def test_an_input_that_is_probably_misspelt_is_no_parameter(inputs: dict[str, str], cause: str) -> None:
    with pytest.raises(errors.InvalidError) as raised:
        examples.plan_of(loading.load(PARAMETERS.read_text()), inputs=inputs)
    assert cause in str(raised.value)


def test_all_checkouts_of_a_run_are_repositories_if_one_step_needs_a_repository() -> None:
    workflow = loading.load(
        """
name: two
inputs: [{name: code, type: codeset}]
steps:
  - {name: one, image: a:1, inputs: [{codeset: {name: code}}]}
  - {name: two, image: a:1, inputs: [{codeset: {name: code, git: true}}]}
"""
    )
    assert [step.checkouts[0].git for step in examples.plan_of(workflow).steps] == [True, True]
