"""The contract of engines, independent of how they execute steps."""

from __future__ import annotations

import base64
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
def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UnderTest]:
    with engines.ENGINES[request.param](tmp_path) as engine:
        yield engine


RESULT = 'printf "%s\\n" "$VALUE" > "$FUSEML_ENV_RESULTS/value"'


def test_outputs_are_passed_on_and_become_the_outputs_of_the_run(under_test: UnderTest) -> None:
    first = engines.shell("first", RESULT, image=under_test.image, outputs=["value"], env={"VALUE": "héllo wörld"})
    second = engines.shell(
        "second",
        RESULT,
        image=under_test.image,
        outputs=["value"],
        needs=("first",),
        env={"VALUE": (*plans.text("<"), *engines.out("first", "value"), *plans.text(">"))},
    )
    plan = engines.make_plan(first, second, outputs={"greeting": engines.out("second", "value")})
    result = under_test.run(plan)
    assert result.run.state == "succeeded"
    assert result.steps["first"].outputs == {"value": "héllo wörld"}
    assert result.run.outputs == {"greeting": "<héllo wörld>"}
    assert result.steps["second"].attempts == 1
    assert result.steps["first"].finished <= result.steps["second"].started  # type: ignore[operator]


def test_steps_without_mutual_needs_run_side_by_side_and_a_join_waits_for_both(under_test: UnderTest) -> None:
    script = f"echo up; {under_test.signals.wait('both')}"
    plan = engines.make_plan(
        engines.shell("join", "true", image=under_test.image, needs=("left", "right")),
        engines.shell("left", script, image=under_test.image, needs=("root",)),
        engines.shell("right", script, image=under_test.image, needs=("root",)),
        engines.shell("root", "true", image=under_test.image),
    )
    under_test.engine.submit(plan, {})
    wait_until(lambda: under_test.log(plan, "left") == under_test.log(plan, "right") == "up\n", "both")
    under_test.signals.give("both")
    steps = under_test.inbox.finished(plan.id).steps
    assert {progress.state for progress in steps.values()} == {"succeeded"}
    times = {name: (progress.started or "", progress.finished or "") for name, progress in steps.items()}
    assert times["left"][0] < times["right"][1]
    assert times["right"][0] < times["left"][1]
    assert times["join"][0] >= max(times["left"][1], times["right"][1])
    assert times["root"][1] <= min(times["left"][0], times["right"][0])


def test_a_failed_step_fails_the_run_with_its_exit_code_and_last_output(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("train", "echo loading; echo; echo 'no such column: price' >&2; exit 3", image=under_test.image),
        engines.shell("serve", "true", image=under_test.image, needs=("train",)),
    )
    result = under_test.run(plan)
    assert (result.run.state, result.states) == ("failed", {"train": "failed", "serve": "skipped"})
    for text in ("train", "code 3", "no such column: price"):
        assert text in (result.run.cause or "")
    assert "code 3" in (result.steps["train"].cause or "")


TRACEBACK = """
cat <<END >&2
Traceback (most recent call last):
  File "$PWD/train.py", line 12, in fit
    frame["price"]
  File "/usr/lib/python3.12/site-packages/pandas/core/frame.py", line 4102, in __getitem__
    indexer = self.columns.get_loc(key)
KeyError: 'price'
END
exit 1
"""


def test_the_cause_of_a_python_program_is_its_exception_and_the_place_in_the_code_of_the_user(under_test: UnderTest) -> None:
    checkout = Checkout(
        name="c", project="p", codeset="c", url="http://host/p/c.git", ref="refs/heads/main", commit="a" * 40, path="/project"
    )
    result = under_test.run(engines.make_plan(engines.shell("train", TRACEBACK, image=under_test.image, checkouts=(checkout,))))
    assert result.steps["train"].cause == "KeyError: 'price' (train.py:12, in fit)"


def test_siblings_of_a_failed_step_finish_and_no_step_starts(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("bad", f"{under_test.signals.wait('running')}; exit 1", image=under_test.image),
        engines.shell("slow", f"echo up; {under_test.signals.wait('failed')}", image=under_test.image),
        engines.shell("after", "true", image=under_test.image, needs=("slow",)),
    )
    under_test.engine.submit(plan, {})
    wait_until(lambda: under_test.log(plan, "slow") == "up\n", "the start of the slow step")
    under_test.signals.give("running")
    under_test.inbox.wait(plan.id, lambda progress: progress.states.get("bad") == "failed")
    under_test.signals.give("failed")
    result = under_test.inbox.finished(plan.id)
    assert (result.run.state, result.states) == ("failed", {"bad": "failed", "slow": "succeeded", "after": "skipped"})


def test_a_declared_output_that_is_not_written_fails_the_step_and_is_named(under_test: UnderTest) -> None:
    result = under_test.run(engines.make_plan(engines.shell("train", "true", image=under_test.image, outputs=["model"])))
    assert result.run.state == "failed"
    assert "'model'" in (result.steps["train"].cause or "")


def test_the_cause_of_a_failed_step_is_its_exit_code_and_not_a_missing_output(under_test: UnderTest) -> None:
    result = under_test.run(engines.make_plan(engines.shell("train", "exit 3", image=under_test.image, outputs=["model"])))
    assert "code 3" in (result.steps["train"].cause or "")


@pytest.mark.parametrize(("count", "character"), [(1490, "x"), (247, "<"), (744, '"')], ids=["plain", "six bytes each", "two bytes each"])
def test_outputs_are_passed_on_completely_or_rejected(under_test: UnderTest, count: int, character: str) -> None:
    script = 'head -c "$COUNT" /dev/zero | tr \'\\0\' "$CHARACTER" > "$FUSEML_ENV_RESULTS/value"'
    plans = [
        engines.make_plan(
            engines.shell(
                "say", script, image=under_test.image, outputs=["value"], env={"COUNT": str(count + more), "CHARACTER": character}
            )
        )
        for more in (0, 20, 100_000)
    ]
    for plan in plans:
        under_test.engine.submit(plan, {})
    small, large, huge = (under_test.inbox.finished(plan.id).steps["say"] for plan in plans)
    assert (small.state, small.outputs) == ("succeeded", {"value": character * count})
    for step in (large, huge):
        assert (step.state, step.outputs) == ("failed", {})
        assert "outputs are larger than 1.5 KiB together; write the content to an artifact store" in (step.cause or "")


def test_a_failing_step_is_retried_up_to_its_limit(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("flaky", "echo trying; exit 4", image=under_test.image, retries=2))
    result = under_test.run(plan)
    assert (result.run.state, result.steps["flaky"].attempts) == ("failed", 3)
    assert under_test.log(plan, "flaky").count("trying") == 3


def test_a_step_succeeds_when_a_retry_succeeds(under_test: UnderTest) -> None:
    # The steps and attempts of a run share the files of the codeset.
    checkout = Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="a" * 40, path="/project")
    flaky = engines.shell("flaky", "test -e tried || { touch tried; exit 1; }", image=under_test.image, retries=3, checkouts=(checkout,))
    result = under_test.run(engines.make_plan(flaky))
    assert (result.run.state, result.steps["flaky"].attempts) == ("succeeded", 2)


def test_a_checkout_of_a_step_s_own_has_no_file_of_another_step(under_test: UnderTest) -> None:
    def step(name: str, *needs: str) -> plans.StepPlan:
        checkout = Checkout(
            name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="d" * 40, path="/project", own=name
        )
        script = 'test ! -e made && touch made && cp commit "$FUSEML_ENV_RESULTS/it"'
        return engines.shell(name, script, image=under_test.image, checkouts=(checkout,), needs=needs, outputs=["it"])

    result = under_test.run(engines.make_plan(step("fit-1"), step("fit-2", "fit-1")))
    assert [result.steps[name].outputs for name in ("fit-1", "fit-2")] == [{"it": "d" * 40}] * 2


def test_steps_share_the_checkout_at_the_planned_commit(under_test: UnderTest) -> None:
    checkout = Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="b" * 40, path="/project")
    build = engines.shell("build", "cp commit built", image=under_test.image, checkouts=(checkout,))
    train = engines.shell(
        "train", 'cp built "$FUSEML_ENV_RESULTS/it"', image=under_test.image, checkouts=(checkout,), needs=("build",), outputs=["it"]
    )
    assert under_test.run(engines.make_plan(build, train)).steps["train"].outputs == {"it": "b" * 40}


def test_a_step_reads_the_files_that_its_inputs_are(under_test: UnderTest) -> None:
    text = "alpha: 0.1\n$(params.x) ${HOME}"
    reads = 'cat "$FUSEML_CONFIG" > "$FUSEML_ENV_RESULTS/it"; cat "$FUSEML_OTHER" > "$FUSEML_ENV_RESULTS/other"'
    files = (plans.File(name="config", variable="FUSEML_CONFIG", text=text), plans.File(name="other", variable="FUSEML_OTHER", text="x"))
    step = engines.shell("read", reads, image=under_test.image, files=files, outputs=["it", "other"])
    assert under_test.run(engines.make_plan(step)).steps["read"].outputs == {"it": text, "other": "x"}


@pytest.mark.parametrize(("text", "state"), [("40", "succeeded"), ("rows=xx", "failed")])
def test_an_output_of_another_type_fails_its_step(under_test: UnderTest, text: str, state: str) -> None:
    step = engines.shell("count", f'echo {text} > "$FUSEML_ENV_RESULTS/rows"', image=under_test.image)
    typed = step.model_copy(update={"outputs": (plans.Output(name="rows", type="integer"),)})
    found = under_test.run(engines.make_plan(typed)).steps["count"]
    assert found.state == state
    assert state == "succeeded" or "'rows': 'rows=xx' is not an integer" in (found.cause or "")


def test_a_step_is_stopped_at_its_timeout(under_test: UnderTest) -> None:
    result = under_test.run(engines.make_plan(engines.shell("slow", "sleep 60", image=under_test.image, timeout=1)))
    assert result.run.state == "failed"
    assert "timed out after 1 s" in (result.steps["slow"].cause or "")
    assert "slow" in (result.run.cause or "")


def test_a_run_is_stopped_at_its_timeout(under_test: UnderTest) -> None:
    steps = [engines.shell("one", "sleep 60", image=under_test.image), engines.shell("two", "true", image=under_test.image, needs=("one",))]
    result = under_test.run(engines.make_plan(*steps, timeout=1))
    assert (result.run.state, result.states) == ("failed", {"one": "cancelled", "two": "skipped"})
    assert "timed out after 1 s" in (result.run.cause or "")


@pytest.mark.parametrize(
    ("operator", "values", "state"), [("in", ["yes", "on"], "succeeded"), ("notin", ["yes"], "skipped"), ("in", ["no"], "skipped")]
)
def test_a_condition_decides_whether_a_step_runs(under_test: UnderTest, operator: str, values: list[str], state: str) -> None:
    condition = {"input": engines.out("ask", "value"), "operator": operator, "values": [plans.text(value) for value in values]}
    plan = engines.make_plan(
        engines.shell("ask", RESULT, image=under_test.image, outputs=["value"], env={"VALUE": "yes"}),
        engines.shell("deploy", RESULT, image=under_test.image, outputs=["value"], env={"VALUE": "url"}, needs=("ask",), when=(condition,)),
        engines.shell("announce", "true", image=under_test.image, needs=("deploy",)),
        outputs={"url": engines.out("deploy", "value")},
    )
    result = under_test.run(plan)
    assert (result.run.state, result.states) == ("succeeded", {"ask": "succeeded", "deploy": state, "announce": state})
    assert result.run.outputs == ({"url": "url"} if state == "succeeded" else {})


def test_cancelling_stops_the_running_step_and_starts_no_other(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("long", "echo working; sleep 60", image=under_test.image),
        engines.shell("next", "true", image=under_test.image, needs=("long",)),
    )
    under_test.engine.submit(plan, {})
    wait_until(lambda: "working" in under_test.log(plan, "long"), "the expected state")
    under_test.engine.cancel(plan.id, "superseded by a newer commit")
    result = under_test.inbox.finished(plan.id)
    assert (result.run.state, result.states) == ("cancelled", {"long": "cancelled", "next": "skipped"})
    assert "superseded by a newer commit" in (result.run.cause or "")


@pytest.mark.parametrize("end", ["its own timeout", "the timeout of the run", "cancelled"])
def test_the_log_of_a_stopped_step_stays_readable(under_test: UnderTest, end: str) -> None:
    if not under_test.keeps_stopped_logs:
        pytest.skip("needs keep-pod-on-cancel in Tekton's feature flags, which infra/integrations/tekton sets")
    seconds = round(4 * under_test.delay)
    step = engines.shell("long", "echo working; sleep 60", image=under_test.image, timeout=seconds if end == "its own timeout" else None)
    plan = engines.make_plan(step, timeout=seconds if end == "the timeout of the run" else None)
    under_test.engine.submit(plan, {})
    wait_until(lambda: "working" in under_test.log(plan, "long"), "the expected state")
    if end == "cancelled":
        under_test.engine.cancel(plan.id, "superseded by a newer commit")
    assert under_test.inbox.finished(plan.id).run.state in ("failed", "cancelled")
    chunk = under_test.engine.logs(plan.id, "long")
    assert chunk.complete
    assert chunk.data.startswith(b"working\n")


def test_cancelling_a_finished_or_unknown_run_does_nothing(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("one", "true", image=under_test.image))
    under_test.run(plan)
    under_test.engine.cancel(plan.id, "too late")
    under_test.engine.cancel("0123456789abcdef", "never was")
    assert engines.fold(under_test.engine.observe(plan.id)).run.state == "succeeded"
    assert under_test.engine.observe("0123456789abcdef") == []


def test_a_run_whose_record_is_removed_is_lost_and_any_other_is_not(under_test: UnderTest) -> None:
    plans = [engines.make_plan(engines.shell("long", "echo working; sleep 60", image=under_test.image)) for _ in range(2)]
    for plan in plans:
        under_test.engine.submit(plan, {})
        assert under_test.engine.loss(plan.id) is None
    for plan in plans:
        wait_until(lambda plan=plan: "working" in under_test.log(plan, "long"), "the expected state")  # type: ignore[misc]
    lost, kept = plans
    under_test.lose(lost.id)
    assert "before" in (under_test.engine.loss(lost.id) or "")
    assert (under_test.engine.loss(kept.id), under_test.engine.observe(lost.id)) == (None, [])
    # Everything that is done to a run may be done to a lost one.
    under_test.engine.cancel(lost.id, "it is lost")
    under_test.engine.forget(lost.id)
    with pytest.raises(errors.NotFoundError):
        under_test.engine.logs(lost.id, "long")
    under_test.engine.cancel(kept.id, "enough")
    assert under_test.inbox.finished(kept.id).run.state == "cancelled"
    assert under_test.engine.loss(kept.id) is None


def test_submitting_a_plan_again_changes_nothing(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("once", "echo once", image=under_test.image))
    for _ in range(3):
        under_test.engine.submit(plan, {})
    under_test.inbox.finished(plan.id)
    under_test.engine.submit(plan, {})
    time.sleep(0.1)
    assert under_test.log(plan, "once") == "once\n"
    identities = [(event.source, event.id) for event in under_test.inbox.of(plan.id)]
    assert len(identities) == len(set(identities))


def test_logs_can_be_read_from_any_offset_while_the_step_runs(under_test: UnderTest) -> None:
    # A container runtime reads both streams at once, so only a pause puts their lines in order.
    script = f"echo one; sleep 1; echo two >&2; {under_test.signals.wait('read')}; echo three"
    plan = engines.make_plan(engines.shell("talk", script, image=under_test.image))
    under_test.engine.submit(plan, {})
    wait_until(lambda: under_test.log(plan, "talk") == "one\ntwo\n", "the expected state")
    assert not under_test.engine.logs(plan.id, "talk").complete
    under_test.signals.give("read")
    under_test.inbox.finished(plan.id)
    pieces, offset, complete = [], 0, False
    while not complete:
        chunk = under_test.engine.logs(plan.id, "talk", offset, limit=5)
        assert len(chunk.data) <= 5
        pieces.append(chunk.data)
        offset, complete = chunk.next_offset, chunk.complete
    assert b"".join(pieces) == b"one\ntwo\nthree\n"


def test_logs_of_unknown_runs_and_steps_raise_not_found(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("one", "true", image=under_test.image))
    under_test.run(plan)
    with pytest.raises(errors.NotFoundError):
        under_test.engine.logs(plan.id, "two")
    with pytest.raises(errors.NotFoundError):
        under_test.engine.logs("0123456789abcdef", "one")


def test_a_step_that_never_ran_has_an_empty_complete_log(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("bad", "exit 1", image=under_test.image), engines.shell("never", "true", image=under_test.image, needs=("bad",))
    )
    under_test.run(plan)
    chunk = under_test.engine.logs(plan.id, "never")
    assert (chunk.data, chunk.complete) == (b"", True)


def test_a_dropped_log_is_gone_or_kept_as_it_was(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("talk", "echo one", image=under_test.image))
    under_test.engine.drop_log("unknown", "talk")
    under_test.run(plan)
    for _ in range(2):
        under_test.engine.drop_log(plan.id, "talk")
    if under_test.root is None:
        assert under_test.log(plan, "talk") == "one\n"
        return
    with pytest.raises(errors.NotFoundError):
        under_test.engine.logs(plan.id, "talk")
    assert not (under_test.root / plan.id / "steps" / "talk" / "log").exists()


def test_only_a_finished_run_can_be_forgotten(under_test: UnderTest) -> None:
    plan = engines.make_plan(engines.shell("one", f"echo one; {under_test.signals.wait('refused')}", image=under_test.image))
    under_test.engine.submit(plan, {})
    wait_until(lambda: under_test.log(plan, "one") == "one\n", "the expected state")
    with pytest.raises(errors.ConflictError, match="has not finished"):
        under_test.engine.forget(plan.id)
    under_test.signals.give("refused")
    under_test.inbox.finished(plan.id)
    under_test.engine.forget(plan.id)
    wait_until(lambda: under_test.engine.observe(plan.id) == [], "the expected state")
    with pytest.raises(errors.NotFoundError):
        under_test.engine.logs(plan.id, "one")
    under_test.engine.forget(plan.id)
    under_test.engine.forget("0123456789abcdef")


def test_a_secret_appears_only_in_the_environment_of_the_step(under_test: UnderTest) -> None:
    canary = "canary-7f3a9c51e2"
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    user = engines.shell(
        "user",
        'test "$KEY" = "key=$EXPECTED" && printf %s "${#KEY}" > "$FUSEML_ENV_RESULTS/length"; sleep 0.5',
        image=under_test.image,
        outputs=["length"],
        env={"KEY": (*plans.text("key="), key), "EXPECTED": (key,)},
    )
    printing = engines.shell("printing", 'echo "the key is $KEY."; exit 1', image=under_test.image, env={"KEY": (key,)}, needs=("user",))
    plan = engines.make_plan(user, printing)
    under_test.engine.submit(plan, {key.ref: canary})
    under_test.inbox.wait(plan.id, lambda progress: "user" in progress.steps)
    time.sleep(0.2)
    assert canary not in contents_of(under_test.root)
    result = under_test.inbox.finished(plan.id)
    assert result.steps["user"].outputs == {"length": str(len("key=" + canary))}
    assert under_test.log(plan, "printing") == "the key is <hidden>.\n"
    wait_until(lambda: canary not in contents_of(under_test.root), "the expected state")
    assert canary not in repr([under_test.inbox.of(plan.id), under_test.engine.observe(plan.id)])


def test_a_secret_in_a_file_is_for_the_step_alone_and_goes_with_it(under_test: UnderTest) -> None:
    canary = "canary-7f3a9c51e2"
    text = f'{{\n  "private_key": "{canary}"\n}}\n'
    key = engines.secret("GOOGLE_APPLICATION_CREDENTIALS")
    file = key.model_copy(update={"path": "gcloud/deep/key.json"})
    script = (
        'set -e; case $KEY in /*/gcloud/deep/key.json) ;; *) exit 3 ;; esac; cat "$KEY"; wc -c < "$KEY" | tr -d " \\n" > "$FUSEML_ENV_RESULTS/size"'
        '; ls -lL "$KEY" | cut -c 1-4 | tr -d "\\n" > "$FUSEML_ENV_RESULTS/mode"'
        '; env | grep -c "canary" | tr -d "\\n" > "$FUSEML_ENV_RESULTS/variables" || true'
    )
    step = engines.shell("reader", script, image=under_test.image, outputs=["size", "mode", "variables"], env={"KEY": (file,)})
    other = engines.shell("other", "true", image=under_test.image, env={"TEXT": (key,)}, needs=("reader",))
    plan = engines.make_plan(step, other)
    result = under_test.run(plan, secrets={key.ref: text})
    assert result.states == {"reader": "succeeded", "other": "succeeded"}, result.run.cause
    assert result.steps["reader"].outputs == {"size": str(len(text)), "mode": "-r--", "variables": "0"}
    assert canary not in under_test.log(plan, "reader")
    wait_until(lambda: canary not in contents_of(under_test.root), "the expected state")


def test_a_file_of_credentials_has_a_largest_size(under_test: UnderTest) -> None:
    key = engines.secret("KEY")
    step = engines.shell("reader", "true", image=under_test.image, env={"KEY": (key.model_copy(update={"path": "key"}),)})
    with pytest.raises(errors.PermanentError, match="at most 65536"):
        under_test.engine.submit(engines.make_plan(step), {key.ref: "x" * 65_537})


@pytest.mark.parametrize(
    "command",
    [
        'printf "%s\n" "$KEY"',
        'printf "https://ada:%s@git.example.org" "$KEY"',
        'printf "ada:%s" "$KEY" | base64 -w 0',
        'printf "%s" "$KEY" | od -A n -t x1 | tr -d " \n"',
    ],
)
def test_an_output_with_a_secret_fails_its_step_and_is_published_nowhere(under_test: UnderTest, command: str) -> None:
    key, canary = engines.secret("KEY"), "canary-7f3a9c51e2"
    leaking = f'printf fine > "$FUSEML_ENV_RESULTS/fine"; {command} > "$FUSEML_ENV_RESULTS/leak"'
    step = engines.shell("leaking", leaking, image=under_test.image, outputs=["fine", "leak"], env={"KEY": (key,)})
    plan = engines.make_plan(step, outputs={"leak": engines.out("leaking", "leak")})
    result = under_test.run(plan, secrets={key.ref: canary})
    assert (result.run.state, result.steps["leaking"].state) == ("failed", "failed")
    assert "its output 'leak' contains a secret of the run" in str(result.steps["leaking"].cause)
    assert not result.steps["leaking"].outputs
    assert not result.run.outputs
    written = [canary, base64.b64encode(f"ada:{canary}".encode()).decode(), canary.encode().hex()]
    for place in (repr([result, *under_test.engine.observe(plan.id)]), under_test.published()):
        assert not [text for text in written if text in place]


def test_observed_events_equal_the_emitted_events(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("flaky", "exit 1", image=under_test.image, retries=1),
        engines.shell("next", "true", image=under_test.image, needs=("flaky",)),
    )
    under_test.run(plan)
    reported = {(event.source, event.id): event for event in under_test.inbox.of(plan.id)}
    observed = {(event.source, event.id): event for event in under_test.engine.observe(plan.id)}
    assert observed == {identity: event for identity, event in reported.items() if identity in observed}
    assert engines.fold(observed.values()) == engines.fold(reported.values())


def test_events_have_the_types_and_subjects_of_tekton(under_test: UnderTest) -> None:
    plan = engines.make_plan(
        engines.shell("good", "true", image=under_test.image), engines.shell("bad", "exit 1", image=under_test.image, needs=("good",))
    )
    under_test.run(plan)
    types = [event.type for event in under_test.inbox.of(plan.id)]
    prefix = "dev.tekton.event."
    assert {
        f"{prefix}{name}.v1"
        for name in ("pipelinerun.started", "taskrun.running", "taskrun.successful", "taskrun.failed", "pipelinerun.failed")
    } <= set(types)
    for event in under_test.inbox.of(plan.id):
        [body] = event.data.values()
        assert event.source.endswith(f"/{body['metadata']['name']}")
        assert event.subject == body["metadata"]["name"]
        assert "spec" not in body or "env" not in str(body["spec"])


def contents_of(root: Path | None) -> str:
    files = [path for path in root.rglob("*") if path.is_file()] if root else []
    return "".join(path.read_bytes().decode(errors="replace") + str(path) for path in files if path.exists())
