"""Rendering of plans: order, conditions, labels, and the plans that the engine rejects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.domain.labels import AUXILIARY_PREFIX, NAME_LABEL, RUN_LABEL
from fuseml.domain.plans import replan
from fuseml.engines.tekton import Settings, admission, events, names, render
from fuseml.runtime import settings as installation
from tests.contract import engines
from tests.unit import tekton_model, tekton_plans
from tests.unit.tekton_plans import CANARY


def render_plan(plan: plans.Plan, **settings: object) -> render.Manifests:
    secrets = tekton_plans.secrets_of(plan)
    admission.admit(plan, secrets)
    return render.render(plan, secrets, Settings(**settings))  # type: ignore[arg-type]


def tasks_of(plan: plans.Plan) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in render_plan(plan).pipeline_run["spec"]["pipelineSpec"]["tasks"]}


@st.composite
def graphs(draw: st.DrawFn) -> plans.Plan:
    """Plans whose steps write `o` and need earlier steps: for an output, for a condition, or only for their end."""
    steps: list[plans.StepPlan] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = [step.name for step in steps]
        pick = st.lists(st.sampled_from(earlier), unique=True, max_size=2) if earlier else st.just([])
        used, compared, awaited = draw(pick), draw(pick), draw(pick)
        values = st.lists(st.sampled_from(["yes", "no"]), max_size=2).map(lambda texts: [plans.text(text) for text in texts])
        inputs = [engines.out(name, "o") for name in compared] + ([plans.text("yes")] if draw(st.booleans()) else [])
        when = [
            plans.Condition(input=value, operator=draw(st.sampled_from(["in", "notin"])), values=tuple(draw(values))) for value in inputs
        ]
        steps.append(
            engines.shell(
                f"s{number}",
                "true",
                outputs=["o"],
                env={f"V{index}": engines.out(name, "o") for index, name in enumerate(used)},
                needs=tuple(dict.fromkeys([*used, *compared, *awaited])),
                when=tuple(when),
                checkouts=(tekton_plans.codeset(),) if draw(st.booleans()) else (),
            )
        )
    return tekton_plans.make(*draw(st.permutations(steps)))


@given(plan=graphs(), data=st.data())
@settings(max_examples=400)
def test_tekton_runs_exactly_the_steps_that_the_rules_of_plans_select(plan: plans.Plan, data: st.DataObject) -> None:
    written = {step.name: {"o": data.draw(st.sampled_from(["yes", "no", "other"]))} for step in plan.steps}
    outcome = tekton_model.run_pipeline(list(tasks_of(plan).values()), written)
    ran: set[str] = set()
    for step in sorted(plan.steps, key=lambda step: step.name):
        if set(step.needs) <= ran and all(holds(condition, written) for condition in step.when):
            ran.add(step.name)
    assert {name for name in outcome.ran if not name.startswith(AUXILIARY_PREFIX)} == ran


def holds(condition: plans.Condition, written: dict[str, dict[str, str]]) -> bool:
    texts = [plans.evaluate(value, written, str) for value in (condition.input, *condition.values)]
    return (texts[0] in texts[1:]) is (condition.operator == "in")


@given(plan=graphs())
@settings(max_examples=200)
def test_each_edge_of_the_plan_is_one_edge_of_the_pipeline(plan: plans.Plan) -> None:
    tasks = tasks_of(plan)
    all_ancestors = {name: ancestors(name, tasks) for name in tasks}
    for step in plan.steps:
        task = tasks[step.name]
        assert set(step.needs) <= tekton_model.dependencies(task)
        implied = {name for name, _ in tekton_model.references([task.get("params", []), task.get("when", [])])}
        assert not implied & set(task.get("runAfter", []))
        assert {name for name in tekton_model.dependencies(task) if not name.startswith(AUXILIARY_PREFIX)} <= needs_of(step, plan)
        clones = {name for name in all_ancestors[step.name] if name.startswith(AUXILIARY_PREFIX)}
        assert bool(step.checkouts) <= bool(clones)


def ancestors(name: str, tasks: dict[str, dict[str, Any]]) -> set[str]:
    direct = tekton_model.dependencies(tasks[name])
    return direct.union(*(ancestors(parent, tasks) for parent in direct))


def needs_of(step: plans.StepPlan, plan: plans.Plan) -> set[str]:
    return set(step.needs).union(*(needs_of(plan.step(need), plan) for need in step.needs))


def test_a_step_after_another_step_with_the_same_codeset_waits_only_for_that_step() -> None:
    code = (tekton_plans.codeset(),)
    tasks = tasks_of(
        tekton_plans.make(
            engines.shell("first", "true", checkouts=code),
            engines.shell("second", "true", checkouts=code, needs=("first",)),
            engines.shell("aside", "true", checkouts=code),
        )
    )
    [clone] = [name for name in tasks if name.startswith(AUXILIARY_PREFIX)]
    assert [tasks[name].get("runAfter") for name in ("first", "second", "aside")] == [[clone], ["first"], [clone]]


def test_a_run_without_secrets_starts_immediately_and_has_no_secret() -> None:
    manifests = render_plan(tekton_plans.PLANS["no-codeset"]())
    assert manifests.secret is None
    assert "status" not in manifests.pipeline_run["spec"]
    assert "workspaces" not in manifests.pipeline_run["spec"]


def test_only_the_secret_contains_secrets() -> None:
    for name in ("secrets-in-text", "shipped", "step-tokens"):
        manifests = render_plan(tekton_plans.PLANS[name]())
        assert manifests.secret is not None
        assert CANARY in json.dumps(manifests.secret["stringData"])
        assert CANARY not in json.dumps(manifests.pipeline_run)
        assert CANARY not in json.dumps({key: value for key, value in manifests.secret.items() if key != "stringData"})
        assert manifests.pipeline_run["spec"]["status"] == "PipelineRunPending"


def test_the_account_of_a_codeset_is_referenced_and_not_revealed() -> None:
    plan = tekton_plans.PLANS["two-codesets"]()
    checkouts = {checkout.account: checkout for step in plan.steps for checkout in step.checkouts}
    manifests = render.render(plan, {account: f"keeper:{CANARY}-{account}" for account in checkouts}, Settings())
    assert manifests.secret is not None
    assert CANARY not in json.dumps(manifests.pipeline_run)
    clones = [task for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"].startswith(AUXILIARY_PREFIX)]
    accounts = set()
    for task in clones:
        [container] = task["taskSpec"]["steps"]
        keys = [variable["valueFrom"]["secretKeyRef"]["key"] for variable in container["env"][:2]]
        accounts.add(tuple(manifests.secret["stringData"][key] for key in keys))
        assert [variable["name"] for variable in container["env"][:2]] == ["GIT_USERNAME", "GIT_PASSWORD"]
        assert "args" not in container
    assert accounts == {("keeper", f"{CANARY}-{account}") for account in checkouts}


def test_an_installation_can_choose_images_account_and_volume() -> None:
    manifests = render_plan(
        tekton_plans.PLANS["image"](),
        service_account="trainer",
        git_image="git:1",
        build_image="buildah:1",
        storage_class="fast",
        volume_size="10Gi",
        verify_registry=False,
    )
    spec = manifests.pipeline_run["spec"]
    assert spec["taskRunTemplate"]["serviceAccountName"] == "trainer"
    claim = spec["workspaces"][0]["volumeClaimTemplate"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "10Gi")
    images = [container["image"] for task in spec["pipelineSpec"]["tasks"] for container in task["taskSpec"]["steps"]]
    assert images[:2] == ["git:1", "buildah:1"]
    assert {"name": "VERIFY_REGISTRY", "value": "false"} in spec["pipelineSpec"]["tasks"][1]["taskSpec"]["steps"][0]["env"]


def test_steps_receive_the_variables_of_the_installation_unless_the_workflow_sets_them() -> None:
    installed = {"FUSEML_TRAINER_IMAGE": "registry.example.com/trainer:1", "FUSEML_X": "$(HOME)"}
    overriding = engines.shell("overriding", "true", env={"FUSEML_TRAINER_IMAGE": "mine:2"}, checkouts=(tekton_plans.codeset(),))
    manifests = render_plan(tekton_plans.make(engines.shell("default", "true"), overriding), variables=installed)
    environments = {
        container["name"] + task["name"]: {variable["name"]: variable["value"] for variable in container.get("env", [])}
        for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"]
        for container in task["taskSpec"]["steps"]
    }
    default, overridden = environments.pop("rundefault"), environments.pop("runoverriding")
    assert (default["FUSEML_TRAINER_IMAGE"], default["FUSEML_X"]) == ("registry.example.com/trainer:1", "$$(HOME)")
    assert overridden["FUSEML_TRAINER_IMAGE"] == "mine:2"
    assert not any("FUSEML_TRAINER_IMAGE" in environment for environment in environments.values())


NAME = st.text(min_size=1, max_size=70)


@given(project=NAME, codeset=NAME, workflow=NAME, name=NAME, step=NAME)
def test_labels_are_valid_for_all_names_and_no_name_is_lost(project: str, codeset: str, workflow: str, name: str, step: str) -> None:
    plan = tekton_plans.make(engines.shell(step, "true", checkouts=(tekton_plans.codeset(codeset=codeset, project=project),)))
    plan = plan.model_copy(update={"project": project, "workflow": workflow, "run": name})
    metadata = render_plan(plan).pipeline_run["metadata"]
    for value in metadata["labels"].values():
        assert names.is_label_value(value)
    facts = {**metadata.get("annotations", {}), **metadata["labels"]}
    assert [facts[f"fuseml.io/{fact}"] for fact in ("project", "codeset", "workflow", "run")] == [project, codeset, workflow, name]


def test_rendering_is_deterministic() -> None:
    for make in tekton_plans.PLANS.values():
        plan = make()
        assert render_plan(plan) == render_plan(plan)


OUTPUT = plans.Output(name="image", image=plans.ImageBuild(name=plans.text("registry.example.com/x:1")))
REJECTED: dict[str, tuple[plans.Plan, str]] = {
    "id": (tekton_plans.make(engines.shell("a", "true"), id="no/label"), r"'no/label' is not a valid run id"),
    "repeated name": (tekton_plans.make(engines.shell("a", "true"), engines.shell("a", "true")), "two steps of the same name"),
    "output": (tekton_plans.make(engines.shell("a", "true", outputs=["a.b"])), "'a.b' is not a valid name of an output"),
    "reserved output": (
        tekton_plans.make(engines.shell("a", "true", outputs=["fuseml-IMAGE_URL"])),
        "the names of outputs must not begin with 'fuseml-'; rename 'fuseml-IMAGE_URL'",
    ),
    "variable": (tekton_plans.make(engines.shell("a", "true", env={"A B": "x"})), "'A B' is not a valid name of an environment variable"),
    "path": (
        tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(path="/tekton/x"),))),
        "'/tekton/x' is not a valid path for a codeset; an example",
    ),
    "two images": (
        tekton_plans.make(engines.shell("a", "").model_copy(update={"outputs": (OUTPUT, OUTPUT.model_copy(update={"name": "other"}))})),
        r"builds more than one image \('image', 'other'\); use one step for each",
    ),
    "no codeset": (
        tekton_plans.make(engines.shell("a", "").model_copy(update={"outputs": (OUTPUT,)})),
        "builds the image 'image' without a codeset",
    ),
    "build script": (
        tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(),)).model_copy(update={"outputs": (OUTPUT,)})),
        "a script cannot select the Dockerfile",
    ),
    "unwritten output": (
        tekton_plans.make(
            engines.shell("a", "", checkouts=(tekton_plans.codeset(),)).model_copy(
                update={
                    "outputs": (
                        plans.Output(name="tag"),
                        plans.Output(name="image", image=plans.ImageBuild(name=plans.text("x"), dockerfile=plans.text("Dockerfile"))),
                    )
                }
            )
        ),
        "step 'a' cannot write the output 'tag': with a dockerfile, it only builds the image 'image' and runs no program",
    ),
    "secret": (
        tekton_plans.make(engines.shell("a", "true", args=((engines.secret("KEY"),),))),
        "step 'a' uses the secret 'KEY' in its image, command, script or condition; pass it as an input or in env",
    ),
    "image": (
        tekton_plans.make(engines.shell("a", "true", image="$(params.x)")),
        r"its image contains text that Tekton would replace as a variable",
    ),
    "condition": (
        tekton_plans.make(
            engines.shell("a", "true", outputs=["o"]),
            engines.shell(
                "b", "true", needs=("a",), when=({"input": engines.out("a", "o"), "values": [plans.text("$(tasks.a.results.o)")]},)
            ),
        ),
        "step 'b': its condition contains text",
    ),
    "folder": (
        tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(path="/$(context.task.name)"),))),
        "codeset's path contains",
    ),
    "need": (tekton_plans.make(engines.shell("a", "true", needs=("b",))), "step 'a' needs 'b', which is not a step of the run"),
    "unknown output": (
        tekton_plans.make(engines.shell("a", "true", env={"X": engines.out("b", "o")})),
        "uses the output 'o' of step 'b', which the run does not have",
    ),
    "cycle": (
        tekton_plans.make(engines.shell("a", "true", needs=("b",)), engines.shell("b", "true", needs=("a",))),
        "the steps a -> b -> a form a cycle|the steps b -> a -> b form a cycle",
    ),
    "combined text": (
        tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x": (*engines.out("a", "o"), *plans.text("/x"))}),
        "Tekton cannot combine texts in an output of the run",
    ),
    "name of output": (
        tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x y": engines.out("a", "o")}),
        "'x y' is not a valid name",
    ),
    "published secret": (
        tekton_plans.make(engines.shell("a", "true"), outputs={"x": (engines.secret("KEY"),)}),
        "'x' contains a secret, which it would publish",
    ),
    "no steps": (tekton_plans.make(), "run example-7 has no steps"),
    "unknown run output": (
        tekton_plans.make(engines.shell("a", "true"), outputs={"x": engines.out("a", "o")}),
        "run example-7 uses the output 'o' of step 'a'",
    ),
}


@pytest.mark.parametrize("name", sorted(REJECTED))
def test_plans_that_tekton_can_never_run_are_rejected_with_the_place_and_the_reason(name: str) -> None:
    plan, expected = REJECTED[name]
    with pytest.raises(errors.PermanentError, match=expected):
        render_plan(plan)


def test_constant_outputs_are_stored_as_an_annotation_because_tekton_cannot_return_them() -> None:
    plan = tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x": engines.out("a", "o"), "y": plans.text("m")})
    pipeline_run = render_plan(plan).pipeline_run
    assert pipeline_run["metadata"]["annotations"] == {"fuseml.io/outputs": '{"y": "m"}'}
    assert pipeline_run["spec"]["pipelineSpec"]["results"] == [{"name": "x", "type": "string", "value": "$(tasks.a.results.o)"}]


def test_each_execution_of_a_run_with_an_approval_has_its_own_objects() -> None:
    code = tekton_plans.codeset()
    first = engines.shell("a", "true", outputs=["o"], checkouts=(code,), env={"A": (engines.secret("FIRST"),)})
    second = engines.shell("b", "true", checkouts=(code,), env={"B": (engines.secret("SECOND"),), "O": engines.out("a", "o")}, needs=("a",))
    approved = second.model_copy(update={"approval": plans.Approval(message=plans.text("go on?"))})
    whole = tekton_plans.make(first, approved, outputs={"o": engines.out("a", "o")})
    succeeded = {"a": replan.StepResult("example-7", {"o": "made before"})}
    parts = [replan.partition(whole, 1, ["a"], {}), replan.partition(whole, 2, ["b"], succeeded)]
    one, two = (render_plan(part) for part in parts)

    assert one.name != two.name
    labels = [manifests.pipeline_run["metadata"]["labels"] for manifests in (one, two)]
    assert [label[RUN_LABEL] for label in labels] == [tekton_plans.RUN_ID, f"{tekton_plans.RUN_ID}.2"]
    assert {label[NAME_LABEL] for label in labels} == {"example-7"}
    assert one.secret is not None and two.secret is not None
    # Each execution clones the codeset: the volume of the first one is gone at the time of the approval.
    cloned = [
        [task["name"].startswith("fuseml-clone") for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"]]
        for manifests in (one, two)
    ]
    assert cloned == [[True, False], [True, False]]
    held = [" ".join(secret["stringData"].values()) for secret in (one.secret, two.secret)]
    assert ["FIRST" in text for text in held] == [True, False]
    assert ["SECOND" in text for text in held] == [False, True]
    [task] = [task for task in two.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "b"]
    assert "made before" in json.dumps(task) and "runAfter" in task and task["runAfter"] == [names.clone(code)]
    # The last execution holds all outputs of the run, including those of earlier executions.
    assert two.pipeline_run["metadata"]["annotations"][events.OUTPUTS_ANNOTATION] == '{"o": "made before"}'


def test_further_outputs_of_an_image_build_are_checked() -> None:
    outputs = (plans.Output(name="tag"), OUTPUT)
    step = engines.shell("a", "", checkouts=(tekton_plans.codeset(),)).model_copy(update={"outputs": outputs})
    task = render_plan(tekton_plans.make(step)).pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]
    containers = task["taskSpec"]["steps"]
    assert [item["name"] for item in containers] == ["prepare", "build", events.CHECK_CONTAINER]
    checked = [argument.partition("=")[0] for argument in containers[-1]["args"][-3:]]
    published = [result["name"] for result in task["taskSpec"]["results"]]
    hints = ["fuseml-IMAGE_URL", "fuseml-IMAGE_DIGEST"]
    assert published == [*checked, *hints] == ["tag", "image", "image-digest", *hints]


def test_outputs_that_name_an_artifact_have_the_names_that_tekton_chains_reads() -> None:
    def results(*outputs: str) -> dict[str, str]:
        plan = tekton_plans.make(engines.shell("a", "true", outputs=list(outputs)))
        task = render_plan(plan).pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]["taskSpec"]
        return {result["name"]: result["value"] for result in task.get("results", [])}

    found = results("rows", "uri", "digest")
    assert (found["fuseml-ARTIFACT_URI"], found["fuseml-ARTIFACT_DIGEST"]) == (found["uri"], found["digest"])
    assert list(results("uri")) == ["uri"], "a hint without a digest means nothing"
    # The outputs of the step stay those of its workflow.
    status = {"taskResults": [{"name": name, "value": "x"} for name in found]}
    assert set(events._results(status, is_step=True)) == {"rows", "uri", "digest"}


def test_an_image_output_of_a_run_refers_to_the_result_of_its_build() -> None:
    name = (*plans.text("registry.example.com/x:"), *engines.out("a", "tag"))
    output = plans.Output(name="image", image=plans.ImageBuild(name=name, dockerfile=plans.text("Dockerfile")))
    build = engines.shell("b", "", checkouts=(tekton_plans.codeset(),), needs=("a",)).model_copy(update={"outputs": (output,)})
    plan = tekton_plans.make(engines.shell("a", "true", outputs=["tag"]), build, outputs={"x": name})
    assert render_plan(plan).pipeline_run["spec"]["pipelineSpec"]["results"] == [
        {"name": "x", "type": "string", "value": "$(tasks.b.results.image)"}
    ]


def test_the_error_names_a_missing_secret() -> None:
    plan = tekton_plans.PLANS["secrets-in-text"]()
    with pytest.raises(errors.PermanentError, match="was submitted without the secret mlflow/tracking/default/AWS_"):
        admission.admit(plan, {})


AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), st.sampled_from(["1", "2"]))


@given(requests=AMOUNTS, limits=AMOUNTS)
def test_declared_resources_stay_and_no_default_contradicts_them(requests: dict[str, str], limits: dict[str, str]) -> None:
    step = engines.shell("train", "true", resources={"requests": requests, "limits": limits})
    (container,) = tasks_of(tekton_plans.make(step))["train"]["taskSpec"]["steps"]
    resources = container["computeResources"]
    assert resources["requests"] | requests == resources["requests"]
    assert resources["limits"] | limits == resources["limits"]
    for resource in resources["requests"].keys() - requests.keys():
        assert resource not in limits, "a default request could exceed the declared limit"
    for resource in resources["limits"].keys() - limits.keys():
        assert resource not in requests, "a declared request could exceed the default limit"


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("ghcr.io/fuseml/predictor:v1", "m.example.com/x/fuseml/predictor:v1"),
        ("docker.io/library/python:3.12", "docker.io/library/python:3.12"),
    ],
)
def test_fuseml_s_own_images_come_from_the_mirror(image: str, pulled: str) -> None:
    plan = tekton_plans.make(engines.shell("serve", "true", image=image))
    (task,) = render_plan(plan, mirror="m.example.com/x").pipeline_run["spec"]["pipelineSpec"]["tasks"]
    assert task["taskSpec"]["steps"][0]["image"] == pulled


@pytest.mark.parametrize(
    ("of_step", "of_run", "timeout"),
    [(None, None, "0s"), (5, None, "5s"), (None, 30, "90s"), (5, 30, "5s"), (600, 30, "90s")],
)
def test_no_task_outlives_its_run_by_more_than_a_minute(of_step: int | None, of_run: int | None, timeout: str) -> None:
    plan = tekton_plans.make(engines.shell("train", "true", timeout=of_step)).model_copy(update={"timeout": of_run})
    assert tasks_of(plan)["train"]["timeout"] == timeout


def test_an_empty_setting_of_the_installation_means_the_default() -> None:
    made = Settings.of(installation.Settings(git_image="", build_image="", step_memory=""))
    assert (made.git_image, made.build_image, made.memory_limit) == (Settings().git_image, Settings().build_image, Settings().memory_limit)
    assert Settings.of(installation.Settings(step_memory="8Gi", image_builds="yes")).memory_limit == "8Gi"
