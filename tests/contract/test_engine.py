"""What every engine must do, whatever it executes steps with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.domain import errors, plans
from fuseml.domain.plans import Checkout
from tests.contract import engines
from tests.contract.engines import UnderTest
from tests.waiting import wait_until


@pytest.fixture(params=engines.PARAMS)
def under(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UnderTest]:
    with engines.ENGINES[request.param](tmp_path) as started:
        yield started


RESULT = 'printf "%s\\n" "$VALUE" > "$FUSEML_ENV_RESULTS/value"'


def test_outputs_are_passed_on_and_become_the_outputs_of_the_run(under: UnderTest) -> None:
    first = engines.shell("first", RESULT, image=under.image, outputs=["value"], env={"VALUE": "héllo wörld"})
    second = engines.shell(
        "second",
        RESULT,
        image=under.image,
        outputs=["value"],
        needs=("first",),
        env={"VALUE": (*plans.text("<"), *engines.out("first", "value"), *plans.text(">"))},
    )
    planned = engines.make_plan(first, second, outputs={"greeting": engines.out("second", "value")})
    ended = under.run(planned)
    assert ended.run.state == "succeeded"
    assert ended.steps["first"].outputs == {"value": "héllo wörld"}
    assert ended.run.outputs == {"greeting": "<héllo wörld>"}
    assert ended.steps["second"].attempts == 1
    assert ended.steps["first"].finished <= ended.steps["second"].started  # type: ignore[operator]


def test_steps_without_mutual_needs_run_side_by_side_and_a_join_waits_for_both(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("join", "true", image=under.image, needs=("left", "right")),
        engines.shell("left", "sleep 0.6", image=under.image, needs=("root",)),
        engines.shell("right", "sleep 0.6", image=under.image, needs=("root",)),
        engines.shell("root", "true", image=under.image),
    )
    steps = under.run(planned).steps
    assert {progress.state for progress in steps.values()} == {"succeeded"}
    times = {name: (progress.started or "", progress.finished or "") for name, progress in steps.items()}
    assert times["left"][0] < times["right"][1]
    assert times["right"][0] < times["left"][1]
    assert times["join"][0] >= max(times["left"][1], times["right"][1])
    assert times["root"][1] <= min(times["left"][0], times["right"][0])


def test_a_failed_step_fails_the_run_with_its_exit_code_and_last_words(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("train", "echo loading; echo; echo 'no such column: price' >&2; exit 3", image=under.image),
        engines.shell("serve", "true", image=under.image, needs=("train",)),
    )
    ended = under.run(planned)
    assert (ended.run.state, ended.states) == ("failed", {"train": "failed", "serve": "skipped"})
    for text in ("train", "code 3", *(["no such column: price"] if under.quotes else [])):
        assert text in (ended.run.cause or "")
    assert "code 3" in (ended.steps["train"].cause or "")


def test_siblings_of_a_failed_step_finish_and_nothing_new_starts(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("bad", "exit 1", image=under.image),
        engines.shell("slow", "sleep 0.6", image=under.image),
        engines.shell("after", "true", image=under.image, needs=("slow",)),
    )
    ended = under.run(planned)
    assert (ended.run.state, ended.states) == ("failed", {"bad": "failed", "slow": "succeeded", "after": "skipped"})


def test_a_declared_output_that_is_not_written_fails_the_step_and_is_named(under: UnderTest) -> None:
    ended = under.run(engines.make_plan(engines.shell("train", "true", image=under.image, outputs=["model"])))
    assert ended.run.state == "failed"
    assert "'model'" in (ended.steps["train"].cause or "")


def test_a_step_that_fails_is_not_blamed_for_what_it_did_not_write(under: UnderTest) -> None:
    ended = under.run(engines.make_plan(engines.shell("train", "exit 3", image=under.image, outputs=["model"])))
    assert "code 3" in (ended.steps["train"].cause or "")


@pytest.mark.parametrize(("count", "character"), [(1490, "x"), (247, "<"), (744, '"')], ids=["plain", "six bytes each", "two bytes each"])
def test_outputs_are_handed_on_whole_or_refused(under: UnderTest, count: int, character: str) -> None:
    script = 'head -c "$COUNT" /dev/zero | tr \'\\0\' "$CHARACTER" > "$FUSEML_ENV_RESULTS/value"'
    plans = [
        engines.make_plan(
            engines.shell("say", script, image=under.image, outputs=["value"], env={"COUNT": str(count + more), "CHARACTER": character})
        )
        for more in (0, 20, 100_000)
    ]
    for planned in plans:
        under.engine.submit(planned, {})
    small, large, huge = (under.inbox.finished(planned.id).steps["say"] for planned in plans)
    assert (small.state, small.outputs) == ("succeeded", {"value": character * count})
    for refused in (large, huge):
        assert (refused.state, refused.outputs) == ("failed", {})
        assert "outputs are larger than 1.5 KiB together; write the content to an artifact store" in (refused.cause or "")


def test_a_step_is_retried_as_often_as_it_may_be(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("flaky", "echo trying; exit 4", image=under.image, retries=2))
    ended = under.run(planned)
    assert (ended.run.state, ended.steps["flaky"].attempts) == ("failed", 3)
    assert under.log(planned, "flaky").count("trying") == 3


def test_a_retry_that_succeeds_makes_the_step_succeed(under: UnderTest) -> None:
    # The codeset's files are shared by the steps and attempts of a run.
    checkout = Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="a" * 40, path="/project")
    flaky = engines.shell("flaky", "test -e tried || { touch tried; exit 1; }", image=under.image, retries=3, checkouts=(checkout,))
    ended = under.run(engines.make_plan(flaky))
    assert (ended.run.state, ended.steps["flaky"].attempts) == ("succeeded", 2)


def test_steps_share_the_checkout_at_the_planned_commit(under: UnderTest) -> None:
    checkout = Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="b" * 40, path="/project")
    build = engines.shell("build", "cp commit built", image=under.image, checkouts=(checkout,))
    train = engines.shell(
        "train", 'cp built "$FUSEML_ENV_RESULTS/it"', image=under.image, checkouts=(checkout,), needs=("build",), outputs=["it"]
    )
    assert under.run(engines.make_plan(build, train)).steps["train"].outputs == {"it": "b" * 40}


def test_a_step_that_takes_too_long_is_ended(under: UnderTest) -> None:
    ended = under.run(engines.make_plan(engines.shell("slow", "sleep 60", image=under.image, timeout=1)))
    assert ended.run.state == "failed"
    assert "timed out after 1 s" in (ended.steps["slow"].cause or "")
    assert "slow" in (ended.run.cause or "")


def test_a_run_that_takes_too_long_is_ended(under: UnderTest) -> None:
    steps = [engines.shell("one", "sleep 60", image=under.image), engines.shell("two", "true", image=under.image, needs=("one",))]
    ended = under.run(engines.make_plan(*steps, timeout=1))
    assert (ended.run.state, ended.states) == ("failed", {"one": "cancelled", "two": "skipped"})
    assert "timed out after 1 s" in (ended.run.cause or "")


@pytest.mark.parametrize(
    ("operator", "values", "state"), [("in", ["yes", "on"], "succeeded"), ("notin", ["yes"], "skipped"), ("in", ["no"], "skipped")]
)
def test_a_condition_decides_whether_a_step_runs(under: UnderTest, operator: str, values: list[str], state: str) -> None:
    condition = {"input": engines.out("ask", "value"), "operator": operator, "values": [plans.text(value) for value in values]}
    planned = engines.make_plan(
        engines.shell("ask", RESULT, image=under.image, outputs=["value"], env={"VALUE": "yes"}),
        engines.shell("deploy", RESULT, image=under.image, outputs=["value"], env={"VALUE": "url"}, needs=("ask",), when=(condition,)),
        engines.shell("announce", "true", image=under.image, needs=("deploy",)),
        outputs={"url": engines.out("deploy", "value")},
    )
    ended = under.run(planned)
    assert (ended.run.state, ended.states) == ("succeeded", {"ask": "succeeded", "deploy": state, "announce": state})
    assert ended.run.outputs == ({"url": "url"} if state == "succeeded" else {})


def test_cancelling_ends_the_running_step_and_starts_nothing_more(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("long", "echo working; sleep 60", image=under.image),
        engines.shell("next", "true", image=under.image, needs=("long",)),
    )
    under.engine.submit(planned, {})
    wait_until(lambda: "working" in under.log(planned, "long"), "the step to work")
    under.engine.cancel(planned.id, "superseded by a newer commit")
    ended = under.inbox.finished(planned.id)
    assert (ended.run.state, ended.states) == ("cancelled", {"long": "cancelled", "next": "skipped"})
    assert "superseded by a newer commit" in (ended.run.cause or "")


@pytest.mark.parametrize("end", ["its own timeout", "the timeout of the run", "cancelled"])
def test_the_log_of_a_step_that_was_ended_can_still_be_read(under: UnderTest, end: str) -> None:
    if not under.keeps_ended:
        pytest.skip("needs keep-pod-on-cancel in Tekton's feature-flags, as infra/integrations/tekton sets it")
    seconds = round(4 * under.beat)
    step = engines.shell("long", "echo working; sleep 60", image=under.image, timeout=seconds if end == "its own timeout" else None)
    planned = engines.make_plan(step, timeout=seconds if end == "the timeout of the run" else None)
    under.engine.submit(planned, {})
    wait_until(lambda: "working" in under.log(planned, "long"), "the step to work")
    if end == "cancelled":
        under.engine.cancel(planned.id, "superseded by a newer commit")
    assert under.inbox.finished(planned.id).run.state in ("failed", "cancelled")
    chunk = under.engine.logs(planned.id, "long")
    assert chunk.complete
    assert chunk.data.startswith(b"working\n")


def test_cancelling_a_finished_or_unknown_run_does_nothing(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("one", "true", image=under.image))
    under.run(planned)
    under.engine.cancel(planned.id, "too late")
    under.engine.cancel("0123456789abcdef", "never was")
    assert engines.fold(under.engine.observe(planned.id)).run.state == "succeeded"
    assert under.engine.observe("0123456789abcdef") == []


def test_submitting_a_plan_again_changes_nothing(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("once", "echo once", image=under.image))
    for _ in range(3):
        under.engine.submit(planned, {})
    under.inbox.finished(planned.id)
    under.engine.submit(planned, {})
    time.sleep(0.1)
    assert under.log(planned, "once") == "once\n"
    identities = [(event.source, event.id) for event in under.inbox.of(planned.id)]
    assert len(identities) == len(set(identities))


def test_logs_can_be_read_from_any_offset_while_the_step_runs(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("talk", f"echo one; echo two >&2; sleep {under.beat}; echo three", image=under.image))
    under.engine.submit(planned, {})
    wait_until(lambda: under.log(planned, "talk") == "one\ntwo\n", "the first lines")
    assert not under.engine.logs(planned.id, "talk").complete
    under.inbox.finished(planned.id)
    pieces, offset, complete = [], 0, False
    while not complete:
        chunk = under.engine.logs(planned.id, "talk", offset, limit=5)
        assert len(chunk.data) <= 5
        pieces.append(chunk.data)
        offset, complete = chunk.next_offset, chunk.complete
    assert b"".join(pieces) == b"one\ntwo\nthree\n"


def test_logs_of_what_is_not_there_are_not_found(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("one", "true", image=under.image))
    under.run(planned)
    with pytest.raises(errors.NotFoundError):
        under.engine.logs(planned.id, "two")
    with pytest.raises(errors.NotFoundError):
        under.engine.logs("0123456789abcdef", "one")


def test_a_step_that_never_ran_has_an_empty_complete_log(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("bad", "exit 1", image=under.image), engines.shell("never", "true", image=under.image, needs=("bad",))
    )
    under.run(planned)
    chunk = under.engine.logs(planned.id, "never")
    assert (chunk.data, chunk.complete) == (b"", True)


def test_a_finished_run_can_be_forgotten_and_no_other(under: UnderTest) -> None:
    planned = engines.make_plan(engines.shell("one", f"echo one; sleep {under.beat}", image=under.image))
    under.engine.submit(planned, {})
    wait_until(lambda: under.log(planned, "one") == "one\n", "the first line")
    with pytest.raises(errors.ConflictError, match="has not finished"):
        under.engine.forget(planned.id)
    under.inbox.finished(planned.id)
    under.engine.forget(planned.id)
    wait_until(lambda: under.engine.observe(planned.id) == [], "the run to be forgotten")
    with pytest.raises(errors.NotFoundError):
        under.engine.logs(planned.id, "one")
    under.engine.forget(planned.id)
    under.engine.forget("0123456789abcdef")


def test_a_secret_reaches_the_environment_of_the_step_and_nothing_else(under: UnderTest) -> None:
    canary = "canary-7f3a9c51e2"
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    user = engines.shell(
        "user",
        'test "$KEY" = "key=$EXPECTED" && printf %s "${#KEY}" > "$FUSEML_ENV_RESULTS/length"; sleep 0.5',
        image=under.image,
        outputs=["length"],
        env={"KEY": (*plans.text("key="), key), "EXPECTED": (key,)},
    )
    printing = engines.shell("printing", 'echo "the key is $KEY."; exit 1', image=under.image, env={"KEY": (key,)}, needs=("user",))
    planned = engines.make_plan(user, printing)
    under.engine.submit(planned, {key.ref: canary})
    under.inbox.wait(planned.id, lambda folded: "user" in folded.steps)
    time.sleep(0.2)
    assert canary not in everything_below(under.root)
    ended = under.inbox.finished(planned.id)
    assert ended.steps["user"].outputs == {"length": str(len("key=" + canary))}
    assert under.log(planned, "printing") == "the key is <hidden>.\n"
    wait_until(lambda: canary not in everything_below(under.root), "the secrets to be removed")
    assert canary not in repr([under.inbox.of(planned.id), under.engine.observe(planned.id)])


def test_what_is_observed_is_what_was_told(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("flaky", "exit 1", image=under.image, retries=1), engines.shell("next", "true", image=under.image, needs=("flaky",))
    )
    under.run(planned)
    told = {(event.source, event.id): event for event in under.inbox.of(planned.id)}
    observed = {(event.source, event.id): event for event in under.engine.observe(planned.id)}
    assert observed == {identity: event for identity, event in told.items() if identity in observed}
    assert engines.fold(observed.values()) == engines.fold(told.values())


def test_events_are_typed_and_named_like_those_of_tekton(under: UnderTest) -> None:
    planned = engines.make_plan(
        engines.shell("good", "true", image=under.image), engines.shell("bad", "exit 1", image=under.image, needs=("good",))
    )
    under.run(planned)
    types = [event.type for event in under.inbox.of(planned.id)]
    prefix = "dev.tekton.event."
    assert {
        f"{prefix}{name}.v1"
        for name in ("pipelinerun.started", "taskrun.running", "taskrun.successful", "taskrun.failed", "pipelinerun.failed")
    } <= set(types)
    for event in under.inbox.of(planned.id):
        [body] = event.data.values()
        assert event.source.endswith(f"/{body['metadata']['name']}")
        assert event.subject == body["metadata"]["name"]
        assert "spec" not in body or "env" not in str(body["spec"])


def everything_below(root: Path | None) -> str:
    files = [path for path in root.rglob("*") if path.is_file()] if root else []
    return "".join(path.read_bytes().decode(errors="replace") + str(path) for path in files if path.exists())
