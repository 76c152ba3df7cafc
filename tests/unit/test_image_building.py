"""The step of a plan that builds the image of a runnable: where it stands, what it knows, and what later plans make of it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.domain.plans import image_building, locks, planning, replan, step_cache, transfers
from tests.contract import engines
from tests.unit import tekton_plans

HALVE, DOUBLE = "runnable://demo/halve/1.0.0", "runnable://demo/Double/2.0.0"
COMMIT, NEWER = "c" * 40, "d" * 40
CODE = planning.CodesetVersion(project="demo", codeset="tools", url="http://git/demo/tools.git", ref="refs/heads/main", commit=COMMIT)


def build(runnable: str = HALVE, **more: object) -> image_building.Build:
    made = image_building.Build(runnable=runnable, code=CODE, dockerfile="Dockerfile", binding=tekton_plans.registry_of_images())
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def runs(name: str, runnable: str = HALVE, **more: object) -> plans.StepPlan:
    checkout = plans.Checkout(name="code", project="demo", codeset="tools", url=CODE.url, ref=CODE.ref, commit=COMMIT, path="/project")
    return engines.shell(name, "halve", image="fuseml.local/build:c", runnable=runnable, checkouts=(checkout,), **more)  # type: ignore[arg-type]


def inserted(*steps: plans.StepPlan, **builds: image_building.Build) -> plans.Plan:
    return image_building.insert(tekton_plans.make(*steps), {item.runnable: item for item in builds.values()}, "workloads")


def test_the_steps_of_a_runnable_wait_for_one_build_and_run_its_image() -> None:
    plain = engines.shell("plain", "true")
    plan = inserted(runs("first"), runs("second", needs=("first",)), plain, halve=build())
    [made, first, second, last] = plan.steps
    assert (made.name, made.image, made.needs) == ("build-halve", plans.text(image_building.BUILDER), ())
    image = (plans.OutputPart(step="build-halve", output="image"),)
    assert [(step.image, step.needs) for step in (first, second)] == [(image, ("build-halve",)), (image, ("build-halve", "first"))]
    assert last == plain
    [checkout] = made.checkouts
    assert (checkout.commit, checkout.own, checkout.pinned) == (COMMIT, "build-halve", True)
    variables = {item.name: item.value for item in made.variables}
    assert variables["FUSEML_IMAGE"] == plans.text("registry.example.com/team/demo/halve")
    assert variables["FUSEML_TAG"] == plans.text(build().tag)
    assert [part.key for part in plans.secret_refs(plan)] == ["REGISTRY_PASSWORD"]
    assert [(item.step, item.binding.extension_id) for item in plan.bindings] == [("build-halve", "harbor")]
    assert image_building.builds(made)
    assert not any(map(image_building.builds, (first, second, last)))
    # The step stores the image itself.
    assert transfers.collecting(made, "demo", plan.id, "/project") == {}


def test_a_recorded_image_needs_no_step() -> None:
    image = f"registry.example.com/team/demo/halve@sha256:{'0' * 64}"
    plan = inserted(runs("first"), halve=build(existing=image))
    assert [(step.name, step.image, step.needs) for step in plan.steps] == [("first", plans.text(image), ())]
    assert plan.bindings == ()
    # A locked repetition needs it again.
    of_demo = plan.model_copy(update={"project": "demo"})
    assert f"image://demo/halve/sha256:{'0' * 64}" in locks.named(of_demo)
    for other in ("registry.example.com/team/demo/halve:1", f"registry.example.com/other/halve@sha256:{'0' * 64}", "halve"):
        step = of_demo.steps[0].model_copy(update={"image": plans.text(other)})
        assert image_building.image_of(step, "demo") is None


def test_the_name_of_the_step_is_free_and_that_of_the_image_in_lower_case() -> None:
    plan = inserted(runs("build-halve"), runs("build-halve-2"), runs("double", DOUBLE), halve=build(), double=build(DOUBLE))
    assert [step.name for step in plan.steps] == ["build-halve-3", "build-double", "build-halve", "build-halve-2", "double"]
    assert plan.step("build-double").collects[0].name == "double"
    with pytest.raises(errors.InvalidError, match=r"'team/demo/a--_b' cannot be a repository of images"):
        inserted(runs("x", "runnable://demo/a--_b/1.0.0"), x=build("runnable://demo/a--_b/1.0.0"))


@given(st.sampled_from(["code", "dockerfile"]), st.text("abc/", min_size=1, max_size=8))
def test_equal_sources_have_one_tag_and_others_have_another(field: str, text: str) -> None:
    changed = build(dockerfile=text) if field == "dockerfile" else build(code=CODE.model_copy(update={"codeset": text}))
    assert build(runnable=DOUBLE, binding=tekton_plans.registry_of_images("http://other")).tag == build().tag
    assert changed.tag != build().tag


def test_a_resumed_run_takes_a_new_commit_and_the_image_of_the_same_one() -> None:
    plan = inserted(runs("first", env={"COMMIT": COMMIT}), halve=build())
    resumed = replan.resume(plan, {}, commit=NEWER)
    assert resumed.step("build-halve") == plan.step("build-halve")
    assert resumed.step("first").checkouts[0].commit == NEWER
    done = {"build-halve": replan.StepResult("example-7", {"image": "registry.example.com/x@sha256:1", "artifact": "image://demo/halve/1"})}
    resumed = replan.resume(plan, done, commit=NEWER)
    assert [(step.name, step.image) for step in resumed.steps] == [("first", plans.text("registry.example.com/x@sha256:1"))]


def test_the_key_of_a_step_is_that_of_its_image_whether_it_was_built_in_the_run_or_before() -> None:
    image = f"registry.example.com/team/demo/halve@sha256:{'0' * 64}"
    keys = set()
    for existing in ("", image):
        plan = inserted(runs("first", cache=plans.Caching(content={"/project": "x"})), halve=build(existing=existing))
        fingerprint = step_cache.fingerprint(plan, plan.step("first"), {"build-halve": {"image": image}})
        assert fingerprint is not None
        keys.add(step_cache.key(fingerprint))
    assert len(keys) == 1
