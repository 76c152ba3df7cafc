"""Plans derived from plans: exactly the remaining steps are executed, recorded outputs are put in, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.plans import (
    Approval,
    Checkout,
    ImageBuild,
    Output,
    OutputPart,
    Part,
    Plan,
    SecretPart,
    StepPlan,
    TextPart,
    Value,
    Variable,
    evaluate,
    parts_of,
    replan,
    secret_refs,
    text,
)

OLD, NEW = "a" * 40, "b" * 40
SECRET = SecretPart(extension="mlflow", service="store", credentials="default", key="AWS_SECRET_ACCESS_KEY")


def output(step: str, name: str = "out") -> OutputPart:
    return OutputPart(step=step, output=name)


def step(name: str, *reads: str, **fields: object) -> StepPlan:
    """A step on a codeset, with a secret, that reads the output `out` of other steps and writes its own."""
    values = [
        Variable(name="FUSEML_ENV_RUN", value=text("w-1")),
        Variable(name="FUSEML_ENV_COMMIT", value=text(OLD)),
        Variable(name="KEY", value=(SECRET,)),
        *(Variable(name=f"FROM_{read}", value=(TextPart(text="<"), output(read), TextPart(text=">"))) for read in reads),
    ]
    checkout = Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="refs/heads/main", commit=OLD, path="/project")
    defaults: dict[str, object] = {
        "image": text("trainer:1"),
        "variables": tuple(values),
        "checkouts": (checkout,),
        "outputs": (Output(name="out"),),
        "needs": reads,
    }
    return StepPlan.model_validate({"name": name, **defaults, **fields})


def plan_of(*steps: StepPlan, **outputs: Value) -> Plan:
    return Plan(id="1", run="w-1", project="p", workflow="w", revision=1, steps=steps, outputs=outputs)


def done(*names: str) -> dict[str, replan.StepResult]:
    return {name: replan.StepResult("w-1", {"out": f"value of {name}"}) for name in names}


CHAIN = plan_of(step("a"), step("b", "a"), step("c", "b", "a"), answer=(output("c"),), first=(output("a"),))


def variables(planned: StepPlan) -> Mapping[str, Value]:
    return {variable.name: variable.value for variable in planned.variables}


def parts(plan: Plan) -> Iterator[Part]:
    for step in plan.steps:
        yield from parts_of(step)
    for value in plan.outputs.values():
        yield from value


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of up to seven steps that read from, or only wait for, steps before them."""
    steps: list[StepPlan] = []
    for number in range(draw(st.integers(1, 7))):
        before = [item.name for item in steps]
        reads = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        waits = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        steps.append(step(f"s{number}", *reads, needs=tuple(dict.fromkeys([*reads, *waits]))))
    declared = draw(st.lists(st.sampled_from([item.name for item in steps]), unique=True))
    return plan_of(*steps, **{f"of_{name}": (output(name),) for name in declared})


@st.composite
def plans_with_successes(draw: st.DrawFn) -> tuple[Plan, list[str]]:
    """A plan, and the succeeded steps of its run; the needs of a succeeded step have succeeded too."""
    whole = draw(plans())
    succeeded: list[str] = []
    for item in whole.steps:
        if set(item.needs) <= set(succeeded) and draw(st.booleans()):
            succeeded.append(item.name)
    return whole, succeeded


@given(plans_with_successes())
def test_a_resumed_plan_executes_the_remaining_steps_on_the_recorded_outputs(drawn: tuple[Plan, list[str]]) -> None:
    whole, succeeded = drawn
    names = [item.name for item in whole.steps]
    if len(succeeded) == len(names):
        with pytest.raises(errors.ConflictError, match="every step of w-1 has succeeded"):
            replan.resume(whole, done(*succeeded))
        return
    resumed = replan.resume(whole, done(*succeeded))

    executed = [item.name for item in resumed.steps]
    assert executed == [name for name in names if name not in succeeded]
    assert [(item.name, item.run) for item in resumed.reused] == [(name, "w-1") for name in names if name in succeeded]
    # It can run: it reads and waits for executed steps only.
    assert {need for item in resumed.steps for need in item.needs} <= set(executed)
    assert {part.step for part in parts(resumed) if isinstance(part, OutputPart)} <= set(executed)
    assert set(resumed.outputs) == set(whole.outputs)
    # The executed steps get the same values as in the whole plan.
    recorded = {name: {"out": f"value of {name}"} for name in names}
    for item in resumed.steps:
        before, after = variables(whole.step(item.name)), variables(item)
        assert {name: evaluate(value, recorded, _called) for name, value in after.items()} == {
            name: evaluate(value, recorded, _called) for name, value in before.items()
        }
        assert after["KEY"] == (SECRET,)
    assert secret_refs(resumed) == (SECRET,)


def _called(part: SecretPart) -> str:
    return f"secret {part.ref}"


@given(plans(), st.data())
def test_a_resumed_plan_can_run_whatever_steps_are_recorded_as_succeeded(whole: Plan, data: st.DataObject) -> None:
    names = [item.name for item in whole.steps]
    recorded = data.draw(st.dictionaries(st.sampled_from(names), st.booleans()))
    succeeded = {name: replan.StepResult("w-1", {"out": "x"} if wrote else {}) for name, wrote in recorded.items()}
    try:
        resumed = replan.resume(whole, succeeded)
    except errors.ConflictError:
        assert set(recorded) == set(names)
        return
    executed = {item.name for item in resumed.steps}
    assert {part.step for part in parts(resumed) if isinstance(part, OutputPart)} <= executed
    assert executed >= set(names) - set(recorded)
    assert executed.isdisjoint(item.name for item in resumed.reused)
    assert executed | {item.name for item in resumed.reused} == set(names)


@given(plans(), st.text("abc0", min_size=1), st.text("xyz-1", min_size=1))
def test_a_renamed_plan_differs_in_its_identity_only(whole: Plan, run_id: str, name: str) -> None:
    locked = replan.rename(whole, run_id, name)
    assert (locked.id, locked.run) == (run_id, name)
    assert all(variables(item)["FUSEML_ENV_RUN"] == text(name) for item in locked.steps)
    assert replan.rename(locked, whole.id, whole.run) == whole
    assert whole.model_dump_json().replace('"w-1"', f'"{name}"').replace('"id":"1"', f'"id":"{run_id}"') == locked.model_dump_json()


def test_a_run_variable_that_the_workflow_sets_itself_stays() -> None:
    own = plan_of(step("a", variables=(Variable(name="FUSEML_ENV_RUN", value=text("nightly")),)))
    assert variables(replan.rename(own, "2", "w-2").steps[0])["FUSEML_ENV_RUN"] == text("nightly")


@given(plans(), st.data())
def test_until_keeps_a_step_and_every_step_that_it_waits_for(whole: Plan, data: st.DataObject) -> None:
    last = data.draw(st.sampled_from([item.name for item in whole.steps]))
    cut = replan.up_to(whole, last)
    kept = {item.name for item in cut.steps}
    assert last in kept
    assert all(set(item.needs) <= kept for item in cut.steps)
    assert all(any(name in other.needs for other in cut.steps) for name in kept - {last})
    assert [item for item in whole.steps if item.name in kept] == list(cut.steps)
    assert set(cut.outputs) == {f"of_{name}" for name in kept} & set(whole.outputs)


def test_one_step_alone_takes_the_outputs_that_it_reads() -> None:
    alone = replan.only(CHAIN, "c", done("a", "b"))
    assert [item.name for item in alone.steps] == ["c"]
    assert variables(alone.steps[0])["FROM_b"] == text("<value of b>")
    assert alone.steps[0].needs == ()
    assert [item.name for item in alone.reused] == ["a", "b"]
    assert alone.outputs == {"answer": (output("c"),), "first": text("value of a")}


def test_one_step_alone_without_the_outputs_that_it_reads_is_refused() -> None:
    with pytest.raises(errors.ConflictError) as refused:
        replan.only(CHAIN, "c", {"a": replan.StepResult("w-1", {"out": "x"}), "b": replan.StepResult("w-1")})
    assert "step 'c' cannot run alone: it reads 'out' of step 'b'" in refused.value.message
    assert replan.only(CHAIN, "a", {}).steps == (CHAIN.steps[0],)


@pytest.mark.parametrize(
    "change", [lambda: replan.up_to(CHAIN, "z"), lambda: replan.only(CHAIN, "z", {}), lambda: replan.resume(CHAIN, {}, images={"z": "x"})]
)
def test_an_unknown_step_is_refused_with_the_names_of_the_known_ones(change: object) -> None:
    assert callable(change)
    with pytest.raises(errors.NotFoundError, match="run w-1 has no step 'z'; its steps are a, b, c"):
        change()


def test_a_step_that_succeeded_without_an_output_that_another_reads_is_executed_again() -> None:
    assert [item.name for item in replan.resume(CHAIN, {"a": replan.StepResult("w-1"), "b": done("b")["b"]}).steps] == ["a", "b", "c"]
    unwritten = {**done("a", "b"), "c": replan.StepResult("w-1")}
    assert [item.name for item in replan.resume(CHAIN, unwritten).steps] == ["c"]


def test_a_resumed_run_can_be_resumed_again() -> None:
    second = replan.rename(replan.resume(CHAIN, done("a")), "2", "w-2")
    third = replan.resume(second, {"b": replan.StepResult("w-2", {"out": "from w-2"})})
    assert [item.name for item in third.steps] == ["c"]
    assert variables(third.steps[0])["FROM_a"] == text("<value of a>")
    assert variables(third.steps[0])["FROM_b"] == text("<from w-2>")
    assert [(item.name, item.run) for item in third.reused] == [("a", "w-1"), ("b", "w-2")]
    assert third.outputs == {"answer": (output("c"),), "first": text("value of a")}


def test_another_image_replaces_that_of_the_named_step() -> None:
    resumed = replan.resume(CHAIN, done("a"), images={"b": "trainer:2"})
    assert [item.image for item in resumed.steps] == [text("trainer:2"), text("trainer:1")]
    with pytest.raises(errors.ConflictError, match="step 'a' of w-1 has succeeded and is not executed again"):
        replan.resume(CHAIN, done("a"), images={"a": "trainer:2"})


def test_another_commit_reaches_the_steps_that_are_executed_and_no_recorded_value() -> None:
    recorded = {"a": replan.StepResult("w-1", {"out": f"model of {OLD}"})}
    resumed = replan.resume(CHAIN, recorded, commit=NEW)
    assert {checkout.commit for item in resumed.steps for checkout in item.checkouts} == {NEW}
    assert {variables(item)["FUSEML_ENV_COMMIT"] for item in resumed.steps} == {text(NEW)}
    assert variables(resumed.steps[0])["FROM_a"] == text(f"<model of {OLD}>")
    assert OLD not in resumed.model_copy(update={"reused": ()}).model_dump_json().replace(f"model of {OLD}", "")


def test_an_image_that_was_built_already_keeps_the_name_of_its_commit() -> None:
    name = text(f"registry/trainer:{OLD}")
    build = step("build", outputs=(Output(name="image", image=ImageBuild(name=name)),))
    train = step("train", image=name, needs=("build",), args=(text(f"--tag={OLD}"),))
    left = replan.resume(plan_of(build, train), {"build": replan.StepResult("w-1")}, commit=NEW).steps[0]
    assert (left.image, left.args) == (name, (text(f"--tag={NEW}"),))
    assert replan.resume(plan_of(build, train), {}, commit=NEW).steps[1].image == text(f"registry/trainer:{NEW}")


def test_a_commit_for_steps_without_a_codeset_is_refused() -> None:
    with pytest.raises(errors.ConflictError, match="no remaining step of w-1 has a codeset"):
        replan.resume(plan_of(step("a"), step("b", checkouts=())), done("a"), commit=NEW)


def test_the_plan_of_a_run_without_approvals_stays_as_it_is() -> None:
    assert replan.partition(CHAIN, 1, ["a", "b", "c"], {}) is CHAIN


def test_an_execution_holds_its_steps_on_the_outputs_of_earlier_executions() -> None:
    asking = CHAIN.model_copy(update={"steps": (*CHAIN.steps[:2], step("c", "b", "a", approval=Approval(message=text("c?"))))})
    first = replan.partition(asking, 1, ["a", "b"], {})
    assert (first.id, [item.name for item in first.steps], list(first.outputs)) == ("1", ["a", "b"], ["first"])
    second = replan.partition(asking, 2, ["c"], done("a", "b"))
    assert (second.id, second.run, [item.approval for item in second.steps]) == ("1.2", "w-1", [None])
    assert second.steps[0].needs == ()
    assert variables(second.steps[0])["FROM_b"] == text("<value of b>")
    assert second.outputs == {"answer": (output("c"),), "first": text("value of a")}
    with pytest.raises(errors.PermanentError, match="step 'b' finished without writing its output 'out'"):
        replan.partition(asking, 2, ["c"], {**done("a"), "b": replan.StepResult("w-1")})
