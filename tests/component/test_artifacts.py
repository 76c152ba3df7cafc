"""Artifacts over HTTP: registration, names, history, deletion; on SQLite and PostgreSQL."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import sqlalchemy

from fuseml.runtime import clock, cloudevents
from fuseml.store import applications, artifact_names, artifacts, database, lineage, runs
from tests.component import dying
from tests.component.registered import DIGEST, NOON, OTHER, STEP, Registered, path
from tests.component.test_backbone_crashes import in_a_process

MODEL = "model://demo/wine/1"


@pytest.fixture
def api(store: database.Database) -> Registered:
    return Registered(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Registered:
    """For rules that do not depend on the database."""
    return Registered(sqlite_store)


# Registration


def test_an_artifact_is_registered_once_and_shown_as_it_was(api: Registered) -> None:
    data = api.register("dataset://demo/raw/train/7", digest=OTHER, type="text/csv", size=40, metadata={"rows": 3})
    made = api.register(
        MODEL,
        digest=DIGEST,
        format="mlflow",
        framework={"name": "scikit-learn", "version": "1.4.2"},
        location="s3://models/wine/1",
        run="train-1",
        step="fit",
        sources=[data["address"]],
        metrics={"rmse": 0.5},
    )
    assert made == api.call("GET", path(MODEL))
    assert (made["framework"], made["metrics"]) == ({"name": "scikit-learn", "version": "1.4.2"}, {"rmse": 0.5})
    assert [made[name] for name in ("digest", "format", "location", "run", "step", "tags", "labels", "external")] == [
        DIGEST,
        "mlflow",
        "s3://models/wine/1",
        "train-1",
        "fit",
        [],
        [],
        False,
    ]
    assert api.call("GET", path("dataset://demo/raw/train/7")) == data
    assert (data["name"], data["type"], data["size"], data["metadata"]) == ("raw/train", "text/csv", 40, {"rows": 3})
    assert api.types() == ["artifact.recorded"] * 2
    assert api.published[1].data["run"] == "train-1"


def test_the_same_registration_changes_nothing_and_another_digest_is_refused_with_both(api: Registered) -> None:
    first = api.register(MODEL, digest=DIGEST, format="mlflow", metrics={"rmse": 0.5})
    assert api.register(MODEL, digest=DIGEST, format="mlflow", metrics={"rmse": 0.5}) == first
    assert api.register(MODEL) == first
    for fields in ({"digest": OTHER}, {"format": "onnx"}, {"metrics": {"rmse": 0.6}}, {"external": True, "location": "s3://a"}):
        refused = api.register(MODEL, status=409, **fields)
        [(name, values)] = refused["details"]["different"].items()
        assert values["given"] != values["stored"], name
    assert refused["message"].startswith(f"{MODEL} is registered with the external")
    refused = api.register(MODEL, digest=OTHER, status=409)
    assert DIGEST in refused["message"]
    assert OTHER in refused["message"]
    filled = api.register(MODEL, digest=DIGEST, size=9, metrics={"r2": 0.1}, metadata={"note": "later"})
    assert filled == {**first, "size": 9, "metrics": {"r2": 0.1, "rmse": 0.5}, "metadata": {"note": "later"}}
    assert api.types() == ["artifact.recorded"] * 2
    assert [event.data.get("completed", "") for event in api.published] == ["", "metrics.r2"]


def test_an_artifact_has_one_producer_and_its_edges_are_of_that_one(api: Registered) -> None:
    for version in (1, 2):
        api.register(f"dataset://demo/raw/{version}")
    made = api.register(MODEL, run="train-1", step="fit", sources=["dataset://demo/raw/1"])
    with api.store.write() as session:
        first = runs.get(session, "train-1")
        runs.add(session, runs.Run(**{**first.model_dump(), "id": "other", "name": "train-2", "sequence": 9}), ["fit"])
    for fields, known, claimed in (({"run": "train-1", "step": "score"}, "fit", "score"), ({"run": "train-2"}, "train-1", "train-2")):
        different = api.register(MODEL, status=409, sources=["dataset://demo/raw/2"], **fields)["details"]["different"]
        assert list(different.values()) == [{"stored": known, "given": claimed}]
    # The sources of one that leaves the producer out are those of the recorded one.
    assert api.register(MODEL, sources=["dataset://demo/raw/2"]) == made
    edges = api.call("GET", path(MODEL).replace("artifacts", "lineage"))["edges"]
    assert [(edge["source"][-1], edge["run"], edge["step"]) for edge in edges] == [("1", "train-1", "fit"), ("2", "train-1", "fit")]


def test_a_step_adds_nothing_to_the_artifact_of_another_step_of_its_run(small: Registered) -> None:
    small.register("dataset://demo/raw/1")
    made = small.register(MODEL, run="train-1", step="score")
    assert small.register(MODEL, sources=["dataset://demo/raw/1"], metrics={"rmse": 0}, token=STEP) == made
    assert small.call("GET", path(MODEL).replace("artifacts", "lineage"))["edges"] == []
    small.register(MODEL, step="fit", run="train-1", token=STEP, status=409)


@pytest.mark.parametrize("name", ["a b", "c++", "-x", "x-", "x.", "x/y", "x" * 101, "", "é"])
def test_a_framework_that_no_filter_can_name_is_not_registered(small: Registered, name: str) -> None:
    small.register(MODEL, framework={"name": name}, status=400)


@pytest.mark.parametrize("name", ["scikit-learn", "h2o", "spark.ml", "_x", "x" * 100])
def test_a_registered_framework_is_found_by_its_name(small: Registered, name: str) -> None:
    small.register(MODEL, framework={"name": name, "version": "1.0"})
    assert small.search(framework=name) == small.search(pattern=f"model://*?framework={name}>=1") == [MODEL]


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"address": "modell://demo/wine/1"}, 400, "'modell' is no kind of artifact"),
        ({"address": "model://demo/wine"}, 400, "it names no version"),
        ({"address": "model://demo/wine@best"}, 400, "it names a tag, not a version"),
        ({"address": "model://nowhere/wine/1"}, 404, "no project named 'nowhere'"),
        ({"run": "train-9"}, 400, "there is no run 'train-9'"),
        ({"run": "secret-1"}, 400, "there is no run 'secret-1' of the project 'demo'"),
        ({"run": "train-1", "step": "serve"}, 400, "no step 'serve'"),
        ({"sources": ["dataset://demo/raw/1"]}, 400, "there is no artifact dataset://demo/raw/1"),
        ({"digest": "x"}, 400, "algorithm:value"),
    ],
)
def test_a_wrong_registration_is_refused_with_its_fault(small: Registered, fields: dict[str, Any], status: int, word: str) -> None:
    refused = small.register(**{"address": MODEL, **fields}, status=status)
    assert word in refused["message"]
    assert small.published == []
    assert small.search() == []


@pytest.mark.parametrize(
    "target",
    [
        "/artifacts/modell/demo/wine/1",
        "/artifacts/model/demo/wine",
        "/artifacts/model/demo/a%252Fb/1%252F2",
        "/artifacts/model/d%252Fe/wine/1",
    ],
)
def test_a_path_that_names_no_address_is_refused(small: Registered, target: str) -> None:
    small.call("GET", target, status=400)


def test_an_external_artifact_is_shown_and_linked(small: Registered) -> None:
    shown = small.register("dataset://demo/open/2", external=True, location="https://example.com/data.csv")
    assert shown["external"] is True
    small.register(MODEL, sources=[shown["address"]])
    assert [node["address"] for node in small.call("GET", path(MODEL).replace("artifacts", "lineage"))["nodes"]] == [
        MODEL,
        shown["address"],
    ]


# Steps


def test_a_step_registers_and_reads_the_artifacts_of_its_own_project_and_run(small: Registered) -> None:
    made = small.register(MODEL, digest=DIGEST, token=STEP)
    assert (made["run"], made["step"]) == ("train-1", "fit")
    assert small.call("GET", path(MODEL), token=STEP) == made
    small.call("PUT", path(MODEL, "tags", "best"))
    assert small.call("GET", "/artifacts/model/demo/wine@best", token=STEP)["address"] == MODEL


def test_a_step_adds_no_facts_to_an_artifact_of_another_run(small: Registered) -> None:
    made = small.register(MODEL)
    assert small.register(MODEL, digest=OTHER, metrics={"rmse": 0}, token=STEP) == made
    assert small.call("GET", path(MODEL)) == made


@pytest.mark.parametrize("character", ["\0", "\x1f"])
def test_text_that_no_database_stores_is_refused_or_kept(api: Registered, character: str) -> None:
    text = f"a{character}b"
    for fields in (
        {"address": f"model://demo/{text}/1"},
        {"format": text},
        {"framework": {"name": "f", "version": text}},
        {"location": text},
        {"run": text},
        {"sources": [f"model://demo/{text}/1"]},
        {"metrics": {text: 1}},
    ):
        api.call("POST", "/artifacts", {"address": MODEL, **fields}, status=400)
    assert api.search() == []
    made = api.register(MODEL, metadata={text: text})
    assert api.call("GET", path(MODEL))["metadata"] == made["metadata"] == {text: text}


def test_a_step_learns_nothing_about_other_projects(small: Registered) -> None:
    small.register("model://other/hidden/1")
    small.call("PUT", path("model://other/hidden/1", "tags", "best"))
    refusals = [
        small.call("GET", path(address), token=STEP, status=403)["message"]
        for address in ("model://other/hidden/1", "model://other/unknown/1")
    ]
    refusals.append(small.call("GET", "/artifacts/model/other/hidden@best", token=STEP, status=403)["message"])
    refusals += [
        small.register(address, token=STEP, status=403)["message"] for address in ("model://other/hidden/1", "model://other/new/1")
    ]
    assert len(set(refusals)) == 1
    assert "hidden" not in refusals[0]
    messages = {
        small.register(MODEL, sources=[f"model://other/{name}/1"], token=STEP, status=400)["message"].replace(name, "")
        for name in ("hidden", "new")
    }
    assert len(messages) == 1
    small.register(MODEL, run="other-1", token=STEP, status=403)
    for method, target in (
        ("GET", "/artifacts"),
        ("DELETE", path(MODEL)),
        ("PUT", path(MODEL, "tags", "x")),
        ("GET", path(MODEL, "history")),
        ("GET", "/lineage/model/other/hidden/1"),
    ):
        small.call(method, target, token=STEP, status=403)


# Names


def test_a_tag_moves_and_its_history_stays(api: Registered) -> None:
    for number in (1, 2):
        api.register(f"model://demo/wine/{number}")
    first, second = path("model://demo/wine/1"), path("model://demo/wine/2")
    tagged = api.call("PUT", f"{first}/tags/best")
    [tag] = tagged["tags"]
    assert (tag["tag"], tag["immutable"], tag["by"]) == ("best", False, "ada")
    assert api.call("PUT", f"{first}/tags/best")["tags"] == [tag]
    assert api.call("GET", "/artifacts/model/demo/wine@best") == tagged
    api.call("PUT", f"{second}/tags/best")
    assert api.call("GET", f"{first}/tags") == []
    assert [item["tag"] for item in api.call("GET", f"{second}/tags")] == ["best"]
    assert api.call("GET", "/artifacts/model/demo/wine@best")["version"] == "2"
    api.call("DELETE", f"{second}/tags/best")
    api.call("GET", "/artifacts/model/demo/wine@best", status=404)
    changes = [
        [(item["change"], item["name"], item["address"][-1], item["previous"]) for item in api.call("GET", f"{one}/history")["changes"]]
        for one in (first, second)
    ]
    moved = ("tagged", "best", "2", "model://demo/wine/1")
    assert changes == [[moved, ("tagged", "best", "1", None)], [("untagged", "best", "2", None), moved]]
    assert api.types()[2:] == ["artifact.tagged", "artifact.tagged", "artifact.untagged"]
    assert api.published[3].data == {
        "address": "model://demo/wine/2",
        "by": "ada",
        "change": 2,
        "tag": "best",
        "previous": "model://demo/wine/1",
        "immutable": False,
    }
    assert len({event.id for event in api.published}) == len(api.published)


def test_an_immutable_tag_stays_until_it_is_made_movable(api: Registered) -> None:
    for number in (1, 2):
        api.register(f"model://demo/wine/{number}")
    first, second = path("model://demo/wine/1"), path("model://demo/wine/2")
    api.call("PUT", f"{first}/tags/v1?immutable=true")
    refused = api.call("PUT", f"{second}/tags/v1", status=409)
    assert "immutable and on model://demo/wine/1" in refused["message"]
    api.call("PUT", f"{second}/tags/v1?immutable=false", status=409)
    api.call("DELETE", f"{first}/tags/v1", status=409)
    assert api.call("PUT", f"{first}/tags/v1")["tags"][0]["immutable"] is True
    api.call("PUT", f"{first}/tags/v1?immutable=false")
    assert api.call("PUT", f"{second}/tags/v1")["tags"][0]["immutable"] is False
    assert api.types().count("artifact.tagged") == 3


def test_labels_are_put_and_removed(api: Registered) -> None:
    api.register(MODEL)
    for _ in range(2):
        labelled = api.call("PUT", path(MODEL, "labels", "team=red"))
    assert labelled["labels"] == ["team=red"]
    assert api.call("DELETE", path(MODEL, "labels", "team=red"))["labels"] == []
    api.call("DELETE", path(MODEL, "labels", "team=red"), status=404)
    assert api.types()[1:] == ["artifact.labelled", "artifact.unlabelled"]
    assert [item["change"] for item in api.call("GET", path(MODEL, "history"))["changes"]] == ["unlabelled", "labelled"]


@pytest.mark.parametrize("name", ["%20", "a%252Fb", "-a", "a" * 101, "a%40b"])
def test_a_wrong_name_is_refused(small: Registered, name: str) -> None:
    small.register(MODEL)
    for collection in ("tags", "labels"):
        small.call("PUT", path(MODEL, collection, name), status=400)


def test_a_name_that_is_absent_is_not_found(small: Registered) -> None:
    small.call("PUT", path(MODEL, "tags", "best"), status=404)
    small.call("GET", path(MODEL, "tags"), status=404)
    small.call("GET", path(MODEL, "history"), status=404)
    small.register(MODEL)
    small.register("model://demo/wine/2")
    small.call("PUT", path("model://demo/wine/2", "tags", "best"))
    small.call("DELETE", path(MODEL, "tags", "best"), status=404)
    assert small.call("GET", path("model://demo/wine/2"))["tags"][0]["tag"] == "best"


def test_an_artifact_has_a_bounded_number_of_labels(small: Registered) -> None:
    small.register(MODEL)
    for number in range(50):
        small.call("PUT", path(MODEL, "labels", f"n{number}"))
    assert "remove one first" in small.call("PUT", path(MODEL, "labels", "more"), status=409)["message"]


# Deletion


def test_an_artifact_in_use_is_not_deleted_and_a_deleted_one_leaves_its_history(api: Registered) -> None:
    api.register("dataset://demo/raw/1")
    api.register(MODEL, digest=DIGEST, sources=["dataset://demo/raw/1"], run="train-1", metrics={"rmse": 1})
    api.call("PUT", path(MODEL, "tags", "best"))
    assert "has tags (best)" in api.call("DELETE", path(MODEL), status=409)["message"]
    api.call("DELETE", path(MODEL, "tags", "best"))
    with api.store.write() as session:
        document = {"type": "predictor", "workflow": "w", "project": "demo", "model": "models:/wine/1"}
        applications.put(session, "served", document, NOON)
    assert "is served by served" in api.call("DELETE", path(MODEL), status=409)["message"]
    with api.store.write() as session:
        applications.put(session, "served", {**document, "model": "models:/wine/2"}, NOON)
    api.call("DELETE", path(MODEL), status=204)
    api.call("DELETE", path(MODEL), status=404)
    api.call("GET", path(MODEL), status=404)
    assert api.search(where="metrics.rmse>0") == []
    history = api.call("GET", path(MODEL, "history"))
    assert history["deleted"] is True
    assert [item["change"] for item in history["changes"]] == ["deleted", "untagged", "tagged"]
    near = api.call("GET", "/lineage/dataset/demo/raw/1")
    assert near["nodes"] == [{"address": "dataset://demo/raw/1", "recorded": True}, {"address": MODEL, "recorded": False}]
    assert api.published[-1].data == {"address": MODEL, "by": "ada", "change": 3, "digest": DIGEST, "reason": ""}
    assert "was deleted with the digest" in api.register(MODEL, digest=OTHER, status=409)["message"]
    assert api.register(MODEL, digest=DIGEST)["digest"] == DIGEST


def test_the_applications_of_a_model_take_one_query(api: Registered) -> None:
    document = {"type": "predictor", "workflow": "w"}
    with api.store.write() as session:
        for number in range(30):
            for model in ("models:/wine/2", f"models:/wine/{number % 3}"):
                project = {"project": ("demo", "other", None)[number % 3 - (number > 20)]} if number % 5 else {}
                applications.put(session, f"app-{number:02}", {**document, **project, "model": model}, NOON)
            row = applications.get(session, f"app-{number:02}")
            if number % 2 and row.revision == 2:
                applications.route(session, row, {1: 50, 2: 50}, NOON)
    queries: list[str] = []
    sqlalchemy.event.listen(api.store.engine, "before_cursor_execute", lambda *about: queries.append(about[2]))
    with api.store.read() as session:
        for wanted in ("0", "2"):
            expected = []
            for row in applications.all_applications(session):
                former = {str(item.revision): item.document["model"] for item in applications.revisions(session, row.name)}
                served = {row.document["model"], *(former[number] for number in row.traffic)}
                if f"models:/wine/{wanted}" in served and row.document.get("project") in (None, "demo"):
                    expected.append(row.name)
            queries.clear()
            assert applications.serving(session, "demo", {f"models:/wine/{wanted}", "x"}) == expected != []
            assert len(queries) == 1
            assert applications.serving(session, "demo", {"models:/wine/9"}) == []


def test_a_model_that_shares_the_traffic_is_in_use(small: Registered) -> None:
    small.register(MODEL)
    with small.store.write() as session:
        for version in (1, 2):
            row = applications.put(session, "served", {"type": "p", "workflow": "w", "model": f"models:/wine/{version}"}, NOON)
        applications.route(session, row, {1: 10, 2: 90}, NOON)
    small.call("DELETE", path(MODEL), status=409)


# Failures


def live_and_die(folder: pathlib.Path, wanted: int) -> None:
    """Register, tag and delete, and be killed at the `wanted`-th statement or commit."""
    api = Registered(database.Database(f"sqlite:///{folder}/fuseml.db"), new=False)
    api.away = True
    point = dying.at(wanted)
    for moment in ("before_cursor_execute", "commit"):
        sqlalchemy.event.listen(api.store.engine, moment, point)
    api.register(MODEL, digest=DIGEST, metrics={"rmse": 1}, sources=["dataset://demo/raw/1"])
    api.call("PUT", path(MODEL, "tags", "best"))
    api.call("DELETE", path(MODEL, "tags", "best"))
    api.call("DELETE", path(MODEL), status=204)


def test_a_killed_process_leaves_whole_changes_each_with_its_event(tmp_path: pathlib.Path) -> None:
    wanted, killed = 0, True
    states = set()
    while killed:
        # Every third point, because each takes a process: a transaction has more.
        wanted += 3
        folder = tmp_path / str(wanted)
        folder.mkdir()
        api = Registered(database.Database(f"sqlite:///{folder}/fuseml.db"))
        api.register("dataset://demo/raw/1")
        api.store.close()
        killed = in_a_process(live_and_die, folder, wanted)
        cloudevents.sweep(api.store, api, clock.now())
        with api.store.read() as session:
            done = [row.change for row in reversed(artifact_names.changes(session, MODEL, 9))]
            exists = artifacts.find(session, MODEL) is not None
            assert len(artifacts.metrics_of(session, [MODEL])) == exists
            assert bool(lineage.neighbourhood(session, MODEL, "up", 1, 9).edges) == (exists or "deleted" in done)
        api.store.close()
        recorded = ["artifact.recorded"] if exists or done else []
        assert api.types()[1:] == [*recorded, *(f"artifact.{change}" for change in done)]
        states.add((exists, *done))
    assert states == {(False,), (True,), (True, "tagged"), (True, "tagged", "untagged"), (False, "tagged", "untagged", "deleted")}


def test_events_that_no_broker_takes_are_kept_with_the_change(api: Registered) -> None:
    api.away = True
    api.register(MODEL)
    api.call("PUT", path(MODEL, "tags", "best"))
    assert (api.published, api.pending()) == ([], 2)
    api.away = False
    assert cloudevents.sweep(api.store, api, clock.now()) == 2
    assert api.types() == ["artifact.recorded", "artifact.tagged"]
