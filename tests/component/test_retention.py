"""Policies of retention, the fate of artifacts under them, and their removal; on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import pytest
import sqlalchemy
import sqlmodel

from fuseml.domain import plans
from fuseml.runtime import clock
from fuseml.store import applications, artifact_names, artifacts, codesets, database, executions, lineage, removals, run_locks, runs
from fuseml.store.tables import run_rows
from tests.component.registered import DIGEST, NOON, STEP, Registered, path

POLICIES, PRUNE = "/artifacts/retention", "/artifacts/prune"
DAY = 86_400.0


@pytest.fixture
def api(store: database.Database) -> Registered:
    return Registered(store)


def policy(api: Registered, kind: str, project: str = "demo", **numbers: int) -> None:
    api.call("PUT", f"{POLICIES}/{project}/{kind}", numbers)


def add(api: Registered, address: str, days: float = 0, **fields: Any) -> str:
    """Register an artifact that was recorded so many days ago."""
    api.register(address, **fields)
    with api.store.write() as session:
        artifacts.get(session, address).created = clock.ago(days * DAY)
    return address


def fates(api: Registered, limit: int = 100, **query: Any) -> dict[str, Any]:
    """Address -> document, of all pages."""
    target: str = f"{PRUNE}?{urllib.parse.urlencode({'limit': limit, **query})}"
    found: dict[str, Any] = {}
    while target:
        answer = api.answer("GET", target)
        assert answer.status_code == 200, answer.text
        page = {item["address"]: item for item in json.loads(answer.text)}
        assert not page.keys() & found.keys()
        found |= page
        target = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
    return found


def reasons(api: Registered, **query: Any) -> dict[str, str | None]:
    return {address: item["reason"] for address, item in fates(api, kept="true", **query).items()}


def going(api: Registered, **query: Any) -> list[str]:
    return list(fates(api, **query))


def prune(api: Registered, *addresses: str) -> dict[str, bool]:
    answer = api.call("POST", PRUNE, {"addresses": list(addresses)})
    return {item["address"]: item["goes"] for item in answer["fates"]}


def end_run(api: Registered, name: str = "train-1") -> None:
    with api.store.write() as session:
        row = runs.get(session, name)
        row.state, row.finished = "succeeded", clock.now()


# Policies


def test_a_policy_is_set_shown_changed_and_removed(api: Registered) -> None:
    assert api.call("GET", POLICIES) == []
    first = api.call("PUT", f"{POLICIES}/demo/model", {"newest": 3})
    assert {key: first[key] for key in ("project", "kind", "newest", "days", "by")} == {
        "project": "demo",
        "kind": "model",
        "newest": 3,
        "days": None,
        "by": "ada",
    }
    assert api.call("PUT", f"{POLICIES}/demo/model", {"newest": 3}) == first, "the same again changes nothing"
    policy(api, "dataset", days=30)
    policy(api, "model", days=7)
    assert [(row["kind"], row["newest"], row["days"]) for row in api.call("GET", POLICIES)] == [("dataset", None, 30), ("model", None, 7)]
    assert [row["kind"] for row in api.call("GET", f"{POLICIES}?project=demo&kind=model")] == ["model"]
    assert api.call("GET", f"{POLICIES}?project=other") == []
    api.call("DELETE", f"{POLICIES}/demo/model", status=204)
    api.call("DELETE", f"{POLICIES}/demo/model", status=404)
    assert "fuseml artifact retention set" in api.call("GET", f"{POLICIES}/demo/model", status=404)["message"]


@pytest.mark.parametrize(
    ("target", "body", "status", "word"),
    [
        ("demo/model", {}, 400, "give one at least"),
        ("demo/model", {"newest": 0}, 400, "newest"),
        ("demo/model", {"days": 10_001}, 400, "days"),
        ("demo/model", {"newest": True}, 400, "newest"),
        ("demo/model", {"newest": 1, "weeks": 1}, 400, "weeks"),
        ("demo/model", {"newest": "many"}, 400, "newest"),
        ("demo/gas", {"newest": 1}, 400, "is no kind of artifact"),
        ("none/model", {"newest": 1}, 404, "none"),
    ],
)
def test_a_wrong_policy_is_refused_and_stores_nothing(api: Registered, target: str, body: object, status: int, word: str) -> None:
    assert word in api.call("PUT", f"{POLICIES}/{target}", body, status=status)["message"]
    assert api.call("GET", POLICIES) == []


def test_steps_may_neither_set_policies_nor_prune(api: Registered) -> None:
    for method, target, body in (
        ("PUT", f"{POLICIES}/demo/model", {"newest": 1}),
        ("DELETE", f"{POLICIES}/demo/model", None),
        ("GET", PRUNE, None),
        ("POST", PRUNE, {"addresses": []}),
    ):
        api.call(method, target, body, token=STEP, status=403)


def test_a_policy_of_a_deleted_project_goes_with_it(api: Registered) -> None:
    policy(api, "model", project="other", newest=1)
    with api.store.write() as session:
        codesets.delete_project(session, "other")
    assert api.call("GET", POLICIES) == []


# Fates


def test_without_a_policy_nothing_goes(api: Registered) -> None:
    add(api, "model://demo/wine/1", days=5000)
    policy(api, "dataset", newest=1)
    policy(api, "model", project="other", newest=1)
    assert fates(api, kept="true") == {}
    assert prune(api, "model://demo/wine/1") == {"model://demo/wine/1": False}
    assert api.call("GET", path("model://demo/wine/1"))


def test_the_newest_and_the_young_stay(api: Registered) -> None:
    for version in range(6):
        add(api, f"model://demo/wine/{version}", days=60 - 10 * version)
    add(api, "model://demo/beer/1", days=99)
    policy(api, "model", newest=2)
    assert going(api) == [f"model://demo/wine/{version}" for version in range(4)]
    policy(api, "model", newest=2, days=35)
    assert reasons(api) == {
        "model://demo/beer/1": "among the newest 2 of its name",
        "model://demo/wine/0": None,
        "model://demo/wine/1": None,
        "model://demo/wine/2": None,
        "model://demo/wine/3": "younger than 35 days",
        "model://demo/wine/4": "among the newest 2 of its name",
        "model://demo/wine/5": "among the newest 2 of its name",
    }
    policy(api, "model", days=35)
    assert going(api) == ["model://demo/beer/1", *(f"model://demo/wine/{version}" for version in range(3))]


def test_tagged_and_served_artifacts_stay_and_labelled_ones_go(api: Registered) -> None:
    for version in range(5):
        add(api, f"model://demo/wine/{version}", days=60 - version)
    api.call("PUT", path("model://demo/wine/0", "tags", "champion"))
    api.call("PUT", path("model://demo/wine/1", "labels", "reviewed"))
    with api.store.write() as session:
        document = {"type": "predictor", "workflow": "w", "project": "demo", "model": "models:/wine/2"}
        applications.put(session, "tasting", document, NOON)
        other = {**document, "project": "other", "model": "model://demo/wine/3"}
        applications.put(session, "elsewhere", other, NOON)
    policy(api, "model", newest=1)
    assert reasons(api) == {
        "model://demo/wine/0": "tagged champion",
        "model://demo/wine/1": None,
        "model://demo/wine/2": "served by tasting",
        "model://demo/wine/3": None,
        "model://demo/wine/4": "the newest of its name",
    }


def test_a_canary_keeps_both_of_its_models(api: Registered) -> None:
    for version in range(3):
        add(api, f"model://demo/wine/{version}", days=60 - version)
    with api.store.write() as session:
        document = {"type": "predictor", "workflow": "w", "project": "demo"}
        for version in (0, 1):
            row = applications.put(session, "tasting", {**document, "model": f"model://demo/wine/{version}"}, NOON)
        applications.route(session, row, {1: 90, 2: 10}, NOON)
    policy(api, "model", newest=1)
    assert going(api) == []


def test_the_inputs_and_results_of_unfinished_runs_stay(api: Registered) -> None:
    for name in ("read", "queued", "made", "written", "free"):
        add(api, f"dataset://demo/{name}/1", days=60)
        add(api, f"dataset://demo/{name}/2", days=1)
    plan = plans.Plan(
        id="of demo", run="train-1", project="demo", workflow="train", revision=1, steps=(), inputs={"data": "dataset://demo/read/1"}
    )
    with api.store.write() as session:
        run_locks.note(session, "of demo", plan)
        row = runs.get(session, "train-1")
        row.inputs = {"data": "dataset://demo/queued/1"}
        step = runs.steps(session, [row.id])[0]
        step.outputs = {"made": "dataset://demo/written/1"}
    policy(api, "dataset", newest=1)
    assert going(api) == ["dataset://demo/free/1", "dataset://demo/made/1"]
    assert reasons(api)["dataset://demo/read/1"] == "used by the unfinished train-1"
    end_run(api)
    assert going(api) == [f"dataset://demo/{name}/1" for name in ("free", "made", "queued", "read", "written")]


def test_a_run_that_the_former_release_planned_keeps_its_inputs(api: Registered) -> None:
    add(api, "dataset://demo/read/1", days=60)
    add(api, "dataset://demo/read/2", days=1)
    with api.store.write() as session:
        plan = plans.Plan(
            id="1", run="train-1", project="demo", workflow="train", revision=1, steps=(), inputs={"d": "dataset://demo/read/1"}
        )
        runs.get(session, "train-1").plan = plan.model_dump(mode="json")
    policy(api, "dataset", newest=1)
    assert going(api) == []


def test_the_present_state_of_a_codeset_stays(api: Registered) -> None:
    commits = [letter * 40 for letter in "abcd"]
    for number, commit in enumerate(commits):
        add(api, f"code://demo/wine/{commit}", days=90 - number)
    with api.store.write() as session:
        session.add(codesets.CodesetRef(project="demo", codeset="wine", ref="refs/heads/old", commit=commits[1], updated=NOON))
    policy(api, "code", days=1)
    assert reasons(api) == {
        f"code://demo/wine/{commits[0]}": None,
        f"code://demo/wine/{commits[1]}": "refs/heads/old is at it",
        f"code://demo/wine/{commits[2]}": None,
        f"code://demo/wine/{commits[3]}": "the newest of its name",
    }


def test_a_registered_runnable_stays(api: Registered) -> None:
    with api.store.write() as session:
        session.execute(sqlalchemy.text(RUNNABLE), {"address": "runnable://demo/fit/1.0.0", "version": "1.0.0"})
    with api.store.write() as session:
        for version in ("1.0.0", "2.0.0"):
            row = artifacts.Artifact(
                address=f"runnable://demo/fit/{version}", kind="runnable", project="demo", name="fit", version=version, created=NOON
            )
            artifacts.record(session, row)
    policy(api, "runnable", days=1)
    assert going(api) == ["runnable://demo/fit/2.0.0"]


RUNNABLE = """INSERT INTO runnable (address, project, name, version, version_order, kind, digest, content, document, "by", created)
VALUES (:address, 'demo', 'fit', :version, '', 'trainer', '', '', '{}', 'ada', '')"""


# Locks


def chain(api: Registered) -> tuple[str, str, str]:
    """A dataset, the model that `train-1` made of it, and the predictions that `train-2` made of the model. All are old."""
    data, model, scored = (
        add(api, address, days=90) for address in ("dataset://demo/raw/1", "model://demo/wine/1", "dataset://demo/scored/1")
    )
    for address in ("dataset://demo/raw/2", "model://demo/wine/2", "dataset://demo/scored/2"):
        add(api, address, days=1)
    with api.store.write() as session:
        first = runs.get(session, "train-1")
        runs.add(session, run_rows.Run(**{**first.model_dump(), "id": "2", "name": "train-2", "sequence": 0, "state": "succeeded"}), [])
        artifacts.get(session, model).run = "train-1"
        lineage.link(session, data, model, "train-1", "fit")
        # Only its plan names the model.
        artifacts.get(session, scored).run = "train-2"
        plan = plans.Plan(id="2", run="train-2", project="demo", workflow="w", revision=1, steps=(), inputs={"model": "models:/wine/1"})
        run_locks.note(session, "2", plan)
    end_run(api)
    return data, model, scored


def test_what_made_a_kept_artifact_stays_to_any_depth(api: Registered) -> None:
    data, model, scored = chain(api)
    policy(api, "dataset", newest=1)
    policy(api, "model", newest=1)
    assert going(api) == [data, scored, model]
    api.call("PUT", path(scored, "tags", "published"))
    found = reasons(api)
    assert found[model] == f"in the lock of train-2, which made {scored}"
    assert found[data] == f"in the lock of train-1, which made {model}"
    assert going(api) == []
    api.call("DELETE", path(scored, "tags", "published"))
    # Artifacts without a policy stay, and what made them.
    api.call("DELETE", f"{POLICIES}/demo/model", status=204)
    assert going(api) == [scored]


def test_an_artifact_that_was_registered_with_its_sources_keeps_them(api: Registered) -> None:
    add(api, "dataset://demo/raw/1", days=90)
    add(api, "dataset://demo/raw/2")
    add(api, "model://other/wine/1", sources=["dataset://demo/raw/1"])
    policy(api, "dataset", newest=1)
    assert reasons(api)["dataset://demo/raw/1"] == "a source of model://other/wine/1"


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_the_order_of_removal_does_not_matter(api: Registered, order: str) -> None:
    chain(api)
    policy(api, "dataset", newest=1)
    policy(api, "model", newest=1)
    listed = going(api)
    assert len(listed) == 3
    for address in listed if order == "forwards" else reversed(listed):
        assert prune(api, address) == {address: True}
    assert going(api) == []


# Removal


def test_a_dry_run_answers_what_then_goes_and_changes_nothing(api: Registered) -> None:
    for version in range(30):
        add(api, f"dataset://demo/{'abc'[version % 3]}/{version:02}", days=90 - version)
    policy(api, "dataset", newest=2)
    listed = fates(api, limit=4)
    assert list(listed) == going(api) and len(listed) == 24
    assert len(api.search()) == 30 and api.types().count("artifact.deleted") == 0
    assert prune(api, *listed) == dict.fromkeys(listed, True)
    assert len(api.search()) == 6 and going(api) == []
    assert prune(api, *listed) == dict.fromkeys(listed, False), "again: nothing is left there"
    assert api.types().count("artifact.deleted") == 24


def test_a_removal_leaves_history_lineage_and_an_event_with_its_reason(api: Registered) -> None:
    address = add(api, "dataset://demo/raw/1", days=90, digest=DIGEST, metrics={"rows": 4})
    add(api, "dataset://demo/raw/2")
    api.call("PUT", path(address, "labels", "reviewed"))
    policy(api, "dataset", newest=1)
    assert prune(api, address) == {address: True}
    assert api.published[-1].data == {"address": address, "by": "ada", "change": 2, "digest": DIGEST, "reason": "retention"}
    history = api.call("GET", path(address, "history"))
    assert history["deleted"] is True
    assert [(item["change"], item["name"], item["by"]) for item in history["changes"]] == [
        ("deleted", "retention", "ada"),
        ("labelled", "reviewed", "ada"),
    ]
    assert api.search(where="metrics.rows>0") == []
    with api.store.read() as session:
        assert removals.find(session, address) is not None


def test_code_and_external_artifacts_have_no_contents_to_delete(api: Registered) -> None:
    code, external = f"code://demo/wine/{'a' * 40}", "dataset://demo/raw/1"
    add(api, code, days=90)
    add(api, f"code://demo/wine/{'b' * 40}")
    add(api, external, days=90, external=True, location="s3://x/y")
    add(api, "dataset://demo/raw/2")
    policy(api, "code", newest=1)
    policy(api, "dataset", newest=1)
    assert prune(api, code, external) == {code: True, external: True}
    with api.store.read() as session:
        assert removals.find(session, code) is None and removals.find(session, external) is None


def test_what_was_protected_after_the_list_stays(api: Registered) -> None:
    for version in range(4):
        add(api, f"model://demo/wine/{version}", days=90 - version)
    policy(api, "model", newest=1)
    listed = going(api)
    api.call("PUT", path(listed[1], "tags", "late"))
    assert prune(api, *listed, "model://demo/wine/3", "model://demo/wine/9") == {
        "model://demo/wine/0": True,
        "model://demo/wine/1": False,
        "model://demo/wine/2": True,
        "model://demo/wine/3": False,
        "model://demo/wine/9": False,
    }
    assert api.search() == ["model://demo/wine/1", "model://demo/wine/3"]


def test_what_a_run_uses_after_the_list_stays(api: Registered) -> None:
    for version in range(3):
        add(api, f"dataset://demo/raw/{version}", days=90 - version)
    policy(api, "dataset", newest=1)
    listed = going(api)
    with api.store.write() as session:
        runs.get(session, "train-1").inputs = {"data": listed[0]}
    assert prune(api, *listed) == {listed[0]: False, listed[1]: True}
    end_run(api)
    assert prune(api, *listed) == {listed[0]: True, listed[1]: False}


def test_a_policy_can_be_tried(api: Registered) -> None:
    for version in range(4):
        add(api, f"model://demo/wine/{version}", days=90 - version)
    query = {"project": "demo", "kind": "model"}
    assert going(api, newest=3, **query) == ["model://demo/wine/0"]
    assert going(api, days=88, **query) == [f"model://demo/wine/{version}" for version in range(3)]
    policy(api, "model", newest=4)
    assert (going(api), len(going(api, newest=1, **query))) == ([], 3)
    assert "name project and kind" in api.call("GET", f"{PRUNE}?newest=1", status=400)["message"]
    assert api.call("GET", f"{POLICIES}/demo/model")["newest"] == 4


@pytest.mark.parametrize("body", [{}, {"addresses": ["gas://x"]}, {"addresses": ["model://demo/wine/1"] * 101}, {"addresses": [1]}])
def test_a_wrong_request_removes_nothing(api: Registered, body: object) -> None:
    add(api, "model://demo/wine/1", days=90)
    add(api, "model://demo/wine/2")
    policy(api, "model", newest=1)
    api.call("POST", PRUNE, body, status=400)
    assert len(api.search()) == 2
    api.call("GET", f"{PRUNE}?cursor=gas", status=400)


def test_a_cached_step_whose_artifact_is_gone_is_executed_again(api: Registered) -> None:
    address = add(api, "dataset://demo/raw/ü", days=90)
    add(api, "dataset://demo/raw/2")
    with api.store.write() as session:
        for step, output in zip(runs.steps(session, ["of demo"]), (address, "dataset://demo/raw/2"), strict=True):
            step.state, step.cache_key, step.outputs = "succeeded", f"key of {step.name}", {"data": output}
    end_run(api)
    policy(api, "dataset", newest=1)
    prune(api, address)
    with api.store.read() as session:
        assert executions.find(session, "demo", "key of fit") is None
        assert executions.find(session, "demo", "key of score") is not None


def test_a_removed_artifact_can_be_registered_again(api: Registered) -> None:
    address = add(api, "dataset://demo/raw/1", days=90, digest=DIGEST)
    add(api, "dataset://demo/raw/2")
    policy(api, "dataset", newest=1)
    prune(api, address)
    assert api.register(address, digest=DIGEST)["digest"] == DIGEST
    with api.store.read() as session:
        assert removals.find(session, address) is None, "its contents stay"
        assert artifact_names.deletion(session, address) is not None


def test_the_list_reads_indexes_and_a_bounded_number_of_artifacts(sqlite_store: database.Database) -> None:
    api = Registered(sqlite_store)
    with api.store.write() as session:
        for number in range(1500):
            name, version = f"n{number % 30}", f"{number:05}"
            session.add(
                artifacts.Artifact(
                    address=f"dataset://demo/{name}/{version}", kind="dataset", project="demo", name=name, version=version, created=NOON
                )
            )
    policy(api, "dataset", newest=2)
    statements: list[tuple[str, object]] = []
    sqlalchemy.event.listen(sqlite_store.engine, "before_cursor_execute", lambda *about: statements.append((about[2], about[3])))
    assert len(api.call("GET", f"{PRUNE}?limit=100")) == 100
    with sqlite_store.engine.connect() as connection:
        for text, given in [item for item in statements if item[0].startswith("SELECT") and "artifact" in item[0]]:
            plan = [str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)]  # type: ignore[arg-type]
            assert [line for line in plan if line.startswith("SCAN artifact") and "USING" not in line] == [], text
            assert "TEMP B-TREE" not in "".join(plan) or "artifact.created" not in text, (text, plan)
    assert len(going(api)) == 1440
    with api.store.read() as session:
        assert session.exec(sqlmodel.select(sqlmodel.func.count()).select_from(artifacts.Artifact)).one() == 1500
