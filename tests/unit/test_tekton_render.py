"""What a plan becomes: order, conditions, labels, and what the engine refuses."""

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
from tests.contract import engines
from tests.unit import tekton_model, tekton_plans
from tests.unit.tekton_plans import CANARY


def rendered(planned: plans.Plan, **settings: object) -> render.Rendered:
    secrets = tekton_plans.secrets_of(planned)
    admission.admit(planned, secrets)
    return render.render(planned, secrets, Settings(**settings))  # type: ignore[arg-type]


def tasks_of(planned: plans.Plan) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in rendered(planned).pipeline_run["spec"]["pipelineSpec"]["tasks"]}


@st.composite
def graphs(draw: st.DrawFn) -> plans.Plan:
    """Steps that each write `o`, and wait for earlier ones: for their output, for one that a condition asks for, or merely for their end."""
    steps: list[plans.StepPlan] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = [step.name for step in steps]
        pick = st.lists(st.sampled_from(earlier), unique=True, max_size=2) if earlier else st.just([])
        taken, asked, awaited = draw(pick), draw(pick), draw(pick)
        values = st.lists(st.sampled_from(["yes", "no"]), max_size=2).map(lambda listed: [plans.text(text) for text in listed])
        inputs = [engines.out(name, "o") for name in asked] + ([plans.text("yes")] if draw(st.booleans()) else [])
        when = [
            plans.Condition(input=value, operator=draw(st.sampled_from(["in", "notin"])), values=tuple(draw(values))) for value in inputs
        ]
        steps.append(
            engines.shell(
                f"s{number}",
                "true",
                outputs=["o"],
                env={f"V{index}": engines.out(name, "o") for index, name in enumerate(taken)},
                needs=tuple(dict.fromkeys([*taken, *asked, *awaited])),
                when=tuple(when),
                checkouts=(tekton_plans.codeset(),) if draw(st.booleans()) else (),
            )
        )
    return tekton_plans.make(*draw(st.permutations(steps)))


@given(planned=graphs(), data=st.data())
@settings(max_examples=400)
def test_tekton_runs_exactly_the_steps_that_the_rule_of_plans_says(planned: plans.Plan, data: st.DataObject) -> None:
    written = {step.name: {"o": data.draw(st.sampled_from(["yes", "no", "other"]))} for step in planned.steps}
    outcome = tekton_model.run_pipeline(list(tasks_of(planned).values()), written)
    ran: set[str] = set()
    for step in sorted(planned.steps, key=lambda step: step.name):
        if set(step.needs) <= ran and all(holds(condition, written) for condition in step.when):
            ran.add(step.name)
    assert {name for name in outcome.ran if not name.startswith(AUXILIARY_PREFIX)} == ran


def holds(condition: plans.Condition, written: dict[str, dict[str, str]]) -> bool:
    texts = [plans.evaluate(value, written, str) for value in (condition.input, *condition.values)]
    return (texts[0] in texts[1:]) is (condition.operator == "in")


@given(planned=graphs())
@settings(max_examples=200)
def test_every_edge_of_the_plan_is_an_edge_of_the_pipeline_once(planned: plans.Plan) -> None:
    tasks = tasks_of(planned)
    above = {name: ancestors(name, tasks) for name in tasks}
    for step in planned.steps:
        task = tasks[step.name]
        assert set(step.needs) <= tekton_model.behind(task)
        implied = {name for name, _ in tekton_model.references([task.get("params", []), task.get("when", [])])}
        assert not implied & set(task.get("runAfter", []))
        assert {name for name in tekton_model.behind(task) if not name.startswith(AUXILIARY_PREFIX)} <= above_of(step, planned)
        clones = {name for name in above[step.name] if name.startswith(AUXILIARY_PREFIX)}
        assert bool(step.checkouts) <= bool(clones)


def ancestors(name: str, tasks: dict[str, dict[str, Any]]) -> set[str]:
    direct = tekton_model.behind(tasks[name])
    return direct.union(*(ancestors(parent, tasks) for parent in direct))


def above_of(step: plans.StepPlan, planned: plans.Plan) -> set[str]:
    return set(step.needs).union(*(above_of(planned.step(need), planned) for need in step.needs))


def test_a_step_behind_another_one_with_the_same_codeset_waits_for_that_one_only() -> None:
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


def test_a_run_without_secrets_starts_at_once_and_has_no_secret() -> None:
    found = rendered(tekton_plans.PLANS["no-codeset"]())
    assert found.secret is None
    assert "status" not in found.pipeline_run["spec"]
    assert "workspaces" not in found.pipeline_run["spec"]


def test_secrets_are_in_the_secret_and_nowhere_else() -> None:
    for name in ("secrets-in-text", "shipped"):
        found = rendered(tekton_plans.PLANS[name]())
        assert found.secret is not None
        assert CANARY in json.dumps(found.secret["stringData"])
        assert CANARY not in json.dumps(found.pipeline_run)
        assert CANARY not in json.dumps({key: value for key, value in found.secret.items() if key != "stringData"})
        assert found.pipeline_run["spec"]["status"] == "PipelineRunPending"


def test_who_may_read_a_codeset_is_named_and_not_told() -> None:
    planned = tekton_plans.PLANS["two-codesets"]()
    checkouts = {checkout.account: checkout for step in planned.steps for checkout in step.checkouts}
    found = render.render(planned, {account: f"keeper:{CANARY}-{account}" for account in checkouts}, Settings())
    assert found.secret is not None
    assert CANARY not in json.dumps(found.pipeline_run)
    clones = [task for task in found.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"].startswith(AUXILIARY_PREFIX)]
    told = set()
    for task in clones:
        [container] = task["taskSpec"]["steps"]
        keys = [variable["valueFrom"]["secretKeyRef"]["key"] for variable in container["env"][:2]]
        told.add(tuple(found.secret["stringData"][key] for key in keys))
        assert [variable["name"] for variable in container["env"][:2]] == ["GIT_USERNAME", "GIT_PASSWORD"]
        assert "args" not in container
    assert told == {("keeper", f"{CANARY}-{account}") for account in checkouts}


def test_an_installation_can_choose_images_account_and_volume() -> None:
    chosen = rendered(
        tekton_plans.PLANS["image"](),
        service_account="trainer",
        git_image="git:1",
        build_image="buildah:1",
        storage_class="fast",
        volume_size="10Gi",
        verify_registry=False,
    )
    spec = chosen.pipeline_run["spec"]
    assert spec["taskRunTemplate"]["serviceAccountName"] == "trainer"
    claim = spec["workspaces"][0]["volumeClaimTemplate"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "10Gi")
    images = [container["image"] for task in spec["pipelineSpec"]["tasks"] for container in task["taskSpec"]["steps"]]
    assert images[:2] == ["git:1", "buildah:1"]
    assert {"name": "VERIFY_REGISTRY", "value": "false"} in spec["pipelineSpec"]["tasks"][1]["taskSpec"]["steps"][0]["env"]


def test_the_steps_find_what_the_installation_has_where_the_workflow_says_nothing_else() -> None:
    installed = {"FUSEML_TRAINER_IMAGE": "registry.example.com/trainer:1", "FUSEML_X": "$(HOME)"}
    said = engines.shell("said", "true", env={"FUSEML_TRAINER_IMAGE": "mine:2"}, checkouts=(tekton_plans.codeset(),))
    found = rendered(tekton_plans.make(engines.shell("silent", "true"), said), variables=installed)
    environments = {
        container["name"] + task["name"]: {variable["name"]: variable["value"] for variable in container.get("env", [])}
        for task in found.pipeline_run["spec"]["pipelineSpec"]["tasks"]
        for container in task["taskSpec"]["steps"]
    }
    silent, asked = environments.pop("runsilent"), environments.pop("runsaid")
    assert (silent["FUSEML_TRAINER_IMAGE"], silent["FUSEML_X"]) == ("registry.example.com/trainer:1", "$$(HOME)")
    assert asked["FUSEML_TRAINER_IMAGE"] == "mine:2"
    assert not any("FUSEML_TRAINER_IMAGE" in environment for environment in environments.values())


NAME = st.text(min_size=1, max_size=70)


@given(project=NAME, codeset=NAME, workflow=NAME, name=NAME, step=NAME)
def test_labels_are_legal_whatever_things_are_called_and_no_name_is_lost(
    project: str, codeset: str, workflow: str, name: str, step: str
) -> None:
    planned = tekton_plans.make(engines.shell(step, "true", checkouts=(tekton_plans.codeset(codeset=codeset, project=project),)))
    planned = planned.model_copy(update={"project": project, "workflow": workflow, "run": name})
    metadata = rendered(planned).pipeline_run["metadata"]
    for value in metadata["labels"].values():
        assert names.is_label_value(value)
    known = {**metadata.get("annotations", {}), **metadata["labels"]}
    assert [known[f"fuseml.io/{fact}"] for fact in ("project", "codeset", "workflow", "run")] == [project, codeset, workflow, name]


def test_rendering_changes_nothing_and_gives_the_same_again() -> None:
    for make in tekton_plans.PLANS.values():
        planned = make()
        assert rendered(planned) == rendered(planned)


OUTPUT = plans.Output(name="image", image=plans.ImageBuild(name=plans.text("registry.example.com/x:1")))
REFUSED: dict[str, tuple[plans.Plan, str]] = {
    "id": (tekton_plans.make(engines.shell("a", "true"), id="no/label"), r"'no/label' cannot be a run's id"),
    "twins": (tekton_plans.make(engines.shell("a", "true"), engines.shell("a", "true")), "two steps of one name"),
    "output": (tekton_plans.make(engines.shell("a", "true", outputs=["a.b"])), "'a.b' cannot be the name of an output"),
    "variable": (tekton_plans.make(engines.shell("a", "true", env={"A B": "x"})), "no environment variable called 'A B'"),
    "path": (tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(path="/tekton/x"),))), "'/tekton/x'; an example"),
    "two images": (
        tekton_plans.make(engines.shell("a", "").model_copy(update={"outputs": (OUTPUT, OUTPUT.model_copy(update={"name": "other"}))})),
        "builds the images 'image' and 'other'; make it one step for each",
    ),
    "nothing": (
        tekton_plans.make(engines.shell("a", "").model_copy(update={"outputs": (OUTPUT,)})),
        "builds the image 'image' from nothing",
    ),
    "build script": (
        tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(),)).model_copy(update={"outputs": (OUTPUT,)})),
        "a script cannot say which Dockerfile to take",
    ),
    "nobody writes": (
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
        "step 'a' builds the image 'image' from a Dockerfile that is named, so no program of its own writes 'tag'",
    ),
    "secret": (
        tekton_plans.make(engines.shell("a", "true", args=((engines.secret("KEY"),),))),
        "step 'a' uses the secret 'KEY' in its image, command, script or condition; pass it as an input or in env",
    ),
    "image": (tekton_plans.make(engines.shell("a", "true", image="$(params.x)")), r"its image holds text that Tekton takes for a variable"),
    "condition": (
        tekton_plans.make(
            engines.shell("a", "true", outputs=["o"]),
            engines.shell(
                "b", "true", needs=("a",), when=({"input": engines.out("a", "o"), "values": [plans.text("$(tasks.a.results.o)")]},)
            ),
        ),
        "step 'b': its condition holds text",
    ),
    "folder": (
        tekton_plans.make(engines.shell("a", "true", checkouts=(tekton_plans.codeset(path="/$(context.task.name)"),))),
        "codeset's path holds",
    ),
    "need": (tekton_plans.make(engines.shell("a", "true", needs=("b",))), "step 'a' needs 'b', which is no step of the run"),
    "unmade": (
        tekton_plans.make(engines.shell("a", "true", env={"X": engines.out("b", "o")})),
        "takes the output 'o' of 'b', which no step",
    ),
    "circle": (
        tekton_plans.make(engines.shell("a", "true", needs=("b",)), engines.shell("b", "true", needs=("a",))),
        "the steps a -> b -> a wait for one another|the steps b -> a -> b wait for one another",
    ),
    "put together": (
        tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x": (*engines.out("a", "o"), *plans.text("/x"))}),
        "Tekton can hand out only what one step has written",
    ),
    "name of output": (
        tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x y": engines.out("a", "o")}),
        "'x y' cannot be the name",
    ),
    "published secret": (
        tekton_plans.make(engines.shell("a", "true"), outputs={"x": (engines.secret("KEY"),)}),
        "'x' would publish a secret",
    ),
    "nothing to run": (tekton_plans.make(), "run example-7 has no step to run"),
    "unmade output": (
        tekton_plans.make(engines.shell("a", "true"), outputs={"x": engines.out("a", "o")}),
        "run example-7 takes the output 'o' of 'a'",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_tekton_can_never_run_is_refused_with_the_place_and_the_reason(name: str) -> None:
    planned, expected = REFUSED[name]
    with pytest.raises(errors.PermanentError, match=expected):
        rendered(planned)


def test_outputs_that_are_known_before_the_run_are_noted_because_tekton_cannot_hand_them_out() -> None:
    planned = tekton_plans.make(engines.shell("a", "true", outputs=["o"]), outputs={"x": engines.out("a", "o"), "y": plans.text("m")})
    found = rendered(planned).pipeline_run
    assert found["metadata"]["annotations"] == {"fuseml.io/outputs": '{"y": "m"}'}
    assert found["spec"]["pipelineSpec"]["results"] == [{"name": "x", "type": "string", "value": "$(tasks.a.results.o)"}]


def test_the_parts_of_a_run_that_asks_are_objects_of_their_own_with_what_each_needs() -> None:
    code = tekton_plans.codeset()
    first = engines.shell("a", "true", outputs=["o"], checkouts=(code,), env={"A": (engines.secret("FIRST"),)})
    behind = engines.shell("b", "true", checkouts=(code,), env={"B": (engines.secret("SECOND"),), "O": engines.out("a", "o")}, needs=("a",))
    asking = behind.model_copy(update={"approval": plans.Approval(message="go on?")})
    whole = tekton_plans.make(first, asking, outputs={"o": engines.out("a", "o")})
    succeeded = {"a": replan.StepResult("example-7", {"o": "made before"})}
    parts = [replan.partition(whole, 1, ["a"], {}), replan.partition(whole, 2, ["b"], succeeded)]
    one, two = (rendered(part) for part in parts)

    assert one.name != two.name
    labels = [found.pipeline_run["metadata"]["labels"] for found in (one, two)]
    assert [label[RUN_LABEL] for label in labels] == [tekton_plans.RUN_ID, f"{tekton_plans.RUN_ID}.2"]
    assert {label[NAME_LABEL] for label in labels} == {"example-7"}
    assert one.secret is not None and two.secret is not None
    # Each part clones for itself: nothing of the first one's volume is left when somebody answers.
    cloned = [
        [task["name"].startswith("fuseml-clone") for task in found.pipeline_run["spec"]["pipelineSpec"]["tasks"]] for found in (one, two)
    ]
    assert cloned == [[True, False], [True, False]]
    held = [" ".join(secret["stringData"].values()) for secret in (one.secret, two.secret)]
    assert ["FIRST" in text for text in held] == [True, False]
    assert ["SECOND" in text for text in held] == [False, True]
    [task] = [task for task in two.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "b"]
    assert "made before" in json.dumps(task) and "runAfter" in task and task["runAfter"] == [names.clone(code)]
    # What the run puts out is known by the end of the last part, whichever made it.
    assert two.pipeline_run["metadata"]["annotations"][events.OUTPUTS_ANNOTATION] == '{"o": "made before"}'


def test_what_a_step_writes_beside_the_image_that_it_describes_is_looked_for() -> None:
    outputs = (plans.Output(name="tag"), OUTPUT)
    described = engines.shell("a", "", checkouts=(tekton_plans.codeset(),)).model_copy(update={"outputs": outputs})
    task = rendered(tekton_plans.make(described)).pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]
    containers = task["taskSpec"]["steps"]
    assert [item["name"] for item in containers] == ["prepare", "build", events.CHECK_CONTAINER]
    # The exit code of the last one is the number of a result.
    assert containers[-1]["command"][-3:] == [result["name"] for result in task["taskSpec"]["results"]]


def test_the_image_that_a_run_puts_out_is_the_one_that_was_built() -> None:
    name = (*plans.text("registry.example.com/x:"), *engines.out("a", "tag"))
    output = plans.Output(name="image", image=plans.ImageBuild(name=name, dockerfile=plans.text("Dockerfile")))
    build = engines.shell("b", "", checkouts=(tekton_plans.codeset(),), needs=("a",)).model_copy(update={"outputs": (output,)})
    planned = tekton_plans.make(engines.shell("a", "true", outputs=["tag"]), build, outputs={"x": name})
    assert rendered(planned).pipeline_run["spec"]["pipelineSpec"]["results"] == [
        {"name": "x", "type": "string", "value": "$(tasks.b.results.image)"}
    ]


def test_a_missing_secret_is_named() -> None:
    planned = tekton_plans.PLANS["secrets-in-text"]()
    with pytest.raises(errors.PermanentError, match="came without the secret mlflow/tracking/default/AWS_"):
        admission.admit(planned, {})
