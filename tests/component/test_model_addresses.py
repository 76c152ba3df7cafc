"""Applications whose model has an address that moves: they follow it, or show that they are behind; events come twice, late, or never."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.contents import mlflow
from fuseml.domain import application, errors, events, model_address
from fuseml.runtime import catalog, clock
from fuseml.steps import sdk, tracking
from fuseml.store import applications, model_addresses
from tests import event_keys
from tests.component import steps
from tests.component.moving_addresses import CHAMPION, DIGESTS, WINE, World, champion


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    under_test = World(tmp_path)
    yield under_test
    under_test.registry.store.close()


def test_the_record_has_the_address_asked_for_and_the_version_that_it_named(world: World) -> None:
    registered = champion(world, "1")
    assert (registered["model"], registered["requested"], registered["digest"]) == ("models:/wine/1", CHAMPION, DIGESTS["1"])
    assert (registered["follow"], registered["behind"]) == (False, None)
    world.tick()
    assert world.get() == registered
    assert world.register(model="models:/wine/3")["requested"] is None


def test_an_application_that_follows_gets_a_revision_of_the_new_version(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    moved = world.aliased("2")
    world.deliver(moved)
    followed = world.get()
    assert (followed["model"], followed["digest"], followed["revision"]) == ("models:/wine/2", DIGESTS["2"], 2)
    assert (followed["requested"], followed["follow"], followed["behind"]) == (CHAMPION, True, None)
    assert followed["traffic"] == [{"revision": 2, "percent": 100, "model": "models:/wine/2"}]
    assert world.serving.served == {"wine": "models:/wine/2"}
    world.deliver(moved)
    world.tick()
    assert world.get() == followed


def test_the_sweep_follows_when_no_event_comes(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    world.tick()
    assert (world.get()["model"], world.serving.served["wine"]) == ("models:/wine/2", "models:/wine/2")


def test_a_late_event_of_a_former_version_changes_nothing(world: World) -> None:
    champion(world, "1", follow=True)
    former = world.aliased("2")
    world.server.point("3")
    world.deliver(world.aliased("3"))
    world.deliver(former)
    assert (world.get()["model"], world.get()["revision"]) == ("models:/wine/3", 2)


def test_an_application_that_does_not_follow_shows_that_it_is_behind(world: World) -> None:
    champion(world, "1")
    world.server.point("2")
    world.deliver(world.aliased("2"))
    for record in (world.get(), world.call("GET", "/applications")[0]):
        assert (record["model"], record["behind"], record["revision"]) == ("models:/wine/1", "models:/wine/2", 1)
    world.server.point("1")
    world.tick()
    assert world.get()["behind"] is None


def test_an_address_that_nothing_has_resolved_is_resolved_by_the_sweep(world: World) -> None:
    world.server.point("4")
    assert world.register(model=CHAMPION)["model"] == CHAMPION
    world.tick()
    record = world.get()
    assert (record["model"], record["requested"], record["digest"], record["follow"]) == ("models:/wine/4", CHAMPION, DIGESTS["4"], False)
    world.server.point("5")
    world.tick()
    assert (world.get()["model"], world.get()["behind"]) == ("models:/wine/4", "models:/wine/5")


def test_a_digest_that_is_tagged_after_the_version_was_followed_is_checked_too(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.digests["2"] = ""
    world.server.point("2")
    world.deliver(world.aliased("2"))
    assert (world.get()["model"], world.get()["digest"]) == ("models:/wine/2", None)
    world.server.digests["2"] = DIGESTS["2"]
    world.tick()
    world.tick()
    assert (world.get()["model"], world.get()["digest"], world.get()["revision"]) == ("models:/wine/2", DIGESTS["2"], 3)


def test_an_application_that_was_rolled_back_stays_so_until_the_address_moves(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    world.tick()
    world.call("POST", "/applications/wine/rollback")
    world.tick()
    assert world.get()["traffic"] == [{"revision": 1, "percent": 100, "model": "models:/wine/1"}]
    world.server.point("3")
    world.tick()
    assert world.get()["traffic"] == [{"revision": 3, "percent": 100, "model": "models:/wine/3"}]


def test_any_mixture_of_moves_events_and_sweeps_ends_with_the_present_version(world: World) -> None:
    champion(world, "1", follow=True)
    chance, sent = random.Random(13), list[events.Event]()
    for _ in range(60):
        match chance.choice(["move", "move", "deliver", "repeat", "lose", "tick"]):
            case "move":
                version = chance.choice(list(DIGESTS))
                world.server.point(version)
                sent.append(world.aliased(version))
            case "deliver" if sent:
                world.deliver(sent.pop(chance.randrange(len(sent))))
            case "repeat" if sent:
                world.deliver(chance.choice(sent))
            case "lose" if sent:
                sent.pop()
            case "tick":
                world.tick()
    world.tick()
    record, present = world.get(), world.server.names[model_address.Alias("wine", "champion")]
    assert (record["model"], record["behind"], world.serving.served["wine"]) == (present, None, present)
    assert record["digest"] == DIGESTS[str(present)[-1]]
    revision = record["revision"]
    for event in sent:
        world.deliver(event)
    assert world.get()["revision"] == revision


def test_an_earlier_answer_never_replaces_a_later_one(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")

    def later() -> None:
        world.server.point("3")
        world.deliver(world.aliased("3"))

    # The server has answered 2 to the first comparison, which stores its answer after that of the second one.
    world.server.meanwhile = later
    world.deliver(world.aliased("2"))
    assert (world.get()["model"], world.get()["revision"]) == ("models:/wine/3", 2)


def test_an_old_registration_that_arrives_late_is_followed_by_the_present_version(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    world.tick()
    world.register(model="models:/wine/1", requested=CHAMPION, digest=DIGESTS["1"], follow=True)
    world.tick()
    assert world.get()["model"] == "models:/wine/2"


def test_a_crash_before_the_serving_knows_is_repaired(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    world.serving.refusals = [errors.TemporaryError("the cluster is away")]
    world.deliver(world.aliased("2"))
    assert (world.get()["model"], world.serving.served["wine"]) == ("models:/wine/2", "models:/wine/1")
    world.tick()
    assert world.serving.served["wine"] == "models:/wine/2"


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        (errors.TemporaryError("it does not answer"), "it does not answer"),
        (errors.PermanentError("no such alias"), "no such alias"),
        (None, f"{CHAMPION} names no version"),
    ],
)
def test_a_comparison_that_fails_is_shown_and_delays_no_other(world: World, refusal: errors.FusemlError | None, problem: str) -> None:
    champion(world, "1", follow=True)
    world.register(name="beer", tracking_uri="http://other/", model="models:/beer/1", requested="models:/beer/latest", follow=True)
    world.other.names[model_address.Newest("beer")] = "models:/beer/2"
    world.server.refusal = refusal
    world.server.names.clear()
    world.tick()
    assert (world.get()["model"], world.get()["address_problem"]) == ("models:/wine/1", problem)
    assert world.get("beer")["model"] == "models:/beer/2"
    world.server.refusal = None
    world.server.point("2")
    world.tick()
    assert (world.get()["model"], world.get()["address_problem"]) == ("models:/wine/2", None)


def test_long_text_of_a_server_is_bounded(world: World) -> None:
    address = f"models:/wine@{'c' * 900}"
    world.register(model="models:/wine/1", requested=address, follow=True)
    world.server.refusal = errors.PermanentError("no such alias " * 1000)
    world.tick()
    problem = world.get()["address_problem"]
    assert (problem[:13], problem[-1], len(problem) <= 500) == ("no such alias", "…", True)
    exact = f"models:/{'w' * 480}/2"
    world.server.refusal, world.server.digests["2"] = None, ""
    world.server.names[model_address.Alias("wine", "c" * 900)] = exact
    world.tick()
    record = world.get()
    assert (record["model"], record["address_problem"], record["description"][-1]) == (exact, None, "…")


def test_a_server_that_does_not_answer_is_asked_once_in_a_sweep(world: World) -> None:
    for number in range(3):
        world.register(name=f"app-{number}", model="models:/wine/1", requested=CHAMPION)
    world.server.refusal = errors.TemporaryError("away")
    world.tick()
    assert world.server.asked == 1
    assert [row["address_problem"] for row in world.call("GET", "/applications")] == ["away"] * 3


def test_the_address_of_an_unknown_server_is_a_shown_problem(world: World) -> None:
    world.register(model="models:/wine/1", requested=CHAMPION, tracking_uri="http://unknown")
    world.tick()
    assert world.get()["address_problem"] == "no tracking server at http://unknown is registered, so the address cannot be compared"


@pytest.mark.parametrize("tag", ["x", f"sha256:{'0' * 63}", f"SHA256:{'0' * 64}", f"{DIGESTS['2']}\n", "\0" * 100_000])
def test_a_tag_that_is_no_digest_stops_no_application(world: World, tag: str) -> None:
    champion(world, "1", follow=True)
    world.register(name="beer", model="models:/beer/1")
    record_digest(world, "models:/wine/2", tag)
    world.server.digests["2"] = tag
    world.server.point("2")
    world.tick()
    assert (world.get()["model"], world.get()["digest"]) == ("models:/wine/2", None)
    assert [row["name"] for row in world.call("GET", "/applications")] == ["beer", "wine"]
    world.serving.served.clear()
    world.tick()
    assert world.serving.served == {"beer": "models:/beer/1", "wine": "models:/wine/2"}
    world.server.digests["2"] = DIGESTS["2"]
    world.tick()
    assert world.get()["digest"] == DIGESTS["2"]


def test_a_version_whose_files_were_changed_is_not_followed(world: World) -> None:
    world.server.digests["2"] = DIGESTS["2"]
    champion(world, "1", follow=True)
    record_digest(world, "models:/wine/2", DIGESTS["3"])
    world.server.point("2")
    world.tick()
    assert world.get()["model"] == "models:/wine/1"
    assert "its files or tags were changed since" in world.get()["address_problem"]


def record_digest(world: World, uri: str, digest: str) -> None:
    from fuseml.store import artifacts
    from fuseml.store.tables.artifact_rows import Artifact

    name, version = uri.removeprefix("models:/").split("/")
    row = Artifact(address=f"model://demo/{name}/{version}", kind="model", project="demo", name=name, version=version, created=clock.now())
    row.details = {"uri": uri, "digest": digest}
    with world.registry.store.write() as session:
        artifacts.record(session, row)


def test_the_previous_release_reads_and_replaces_such_an_application(world: World) -> None:
    champion(world, "1", follow=True)
    with world.registry.store.write() as session:
        row = applications.get(session, "wine")
        assert application.Application.model_validate(row.document).model == "models:/wine/1"
        # Its registration knows of no address.
        applications.put(session, "wine", {**row.document, "model": "models:/wine/7"}, clock.now())
    assert (world.get()["model"], world.get()["requested"]) == ("models:/wine/7", None)
    world.server.point("2")
    world.tick()
    assert world.get()["model"] == "models:/wine/7"
    with world.registry.store.read() as session:
        assert not model_addresses.all_addresses(session)


def test_a_deleted_application_leaves_no_address(world: World) -> None:
    champion(world, "1", follow=True)
    world.call("DELETE", "/applications/wine", status=204)
    world.tick()
    assert world.register(model="models:/wine/2")["requested"] is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": "models:/wine/1", "follow": True}, "follow: 'models:/wine/1' cannot move; use an alias"),
        ({"model": "s3://models/main/wine", "follow": True}, "follow: 's3://models/main/wine' cannot move"),
        ({"model": "models:/wine@other", "requested": CHAMPION}, "model: 'models:/wine@other' is not the address of a version"),
    ],
)
def test_a_registration_that_cannot_be_followed_is_refused(world: World, fields: dict[str, object], problem: str) -> None:
    assert problem in str(world.call("POST", "/applications", {**WINE, **fields}, 400))


def test_forged_events_compare_nothing(world: World) -> None:
    champion(world, "1", follow=True)
    world.server.point("2")
    headers, body = event_keys.encode(world.aliased("2"), event_keys.FORGER)
    assert world.housekeeper.post(catalog.EVENTS, headers=headers, data=body).status_code == 400
    assert world.server.asked == 0


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers every request with the text of its server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    status, text = 200, ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self.text.encode(errors="surrogateescape")
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def answering() -> Iterator[tuple[str, type[Answering]]]:
    """The URL of a server, and its handler with the answer to set."""

    class Handler(Answering):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Handler
    server.shutdown()
    server.server_close()


ANSWER = {
    "model_version": {"name": "wine", "version": "1", "tags": [{"key": "fuseml.digest", "value": "x"}]},
    "model_versions": [{"version": "1"}],
    "run": {"info": {"experiment_id": "0", "run_id": "r"}},
    "models": [{"info": {"model_id": "m-1", "name": "own", "creation_timestamp_ms": 1}}],
}
ODD: list[object] = [None, [], {}, "", "x", "1/../2", "1" * 600, 1.5, float("inf"), True, [None], [{}], {"x": 1}, "\ud800"]


def changed(value: Any) -> Iterator[object]:
    """The value with one odd or missing part."""
    yield from ODD
    for key, part in value.items() if isinstance(value, dict) else ():
        yield {name: other for name, other in value.items() if name != key}
        yield from ({**value, key: other} for other in changed(part))
    if isinstance(value, list):
        yield from ([other] for other in changed(value[0]))


def test_no_answer_of_a_server_is_another_error_or_an_address_that_can_move(answering: tuple[str, type[Answering]]) -> None:
    url, handler = answering
    tracking, refused = mlflow.Tracking(url), set[str]()
    addresses = [address for text in (CHAMPION, "models:/wine/latest", "runs:/r/own") if (address := model_address.moving(text))]
    texts = [json.dumps(document) for document in (ANSWER, *changed(ANSWER))]
    for handler.text in [*texts, "[" * 100_000, f'{{"model_version": {"1" * 5000}}}', '{"model_version": "\udcff"}']:
        for address in addresses:
            try:
                exact = tracking.exact(address)
                assert exact is None or (model_address.is_exact(exact) and len(exact) <= 500)
            except errors.PermanentError as error:
                refused.add(type(address).__name__)
                assert len(error.message) < 500
        with contextlib.suppress(errors.PermanentError):
            assert isinstance(tracking.model_version("wine", "1").tags, dict)
    assert refused == {"Alias", "Newest", "OfRun"}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, '{"model_version": []}'),
        (200, '{"model_version": {"version": "x"}}'),
        (200, "["),
        (400, json.dumps({"message": "\ud800\0"})),
    ],
)
def test_an_answer_that_means_nothing_delays_no_other_comparison(
    world: World, answering: tuple[str, type[Answering]], status: int, text: str
) -> None:
    url, handler = answering
    handler.status, handler.text = status, text
    champion(world, "1", follow=True)
    world.register(name="wines", tracking_uri="http://other", model="models:/wine/1", requested="models:/wine/latest", follow=True)
    world.other.names[model_address.Newest("wine")] = "models:/wine/2"
    world.servers["http://mlflow"] = mlflow.Tracking(url)
    world.tick()
    assert world.get("wines")["model"] == "models:/wine/2"
    assert (world.get()["model"], bool(world.get()["address_problem"])) == ("models:/wine/1", True)


@pytest.fixture(scope="module")
def registered(mlflow_server: str) -> Mapping[str, str]:
    """Addresses of a registered model on a real MLflow, and the exact ones that they name."""
    api = f"{mlflow_server}/api/2.0/mlflow"
    steps.call(f"{api}/registered-models/create", {"name": "moving"})
    for _ in range(3):
        steps.call(f"{api}/model-versions/create", {"name": "moving", "source": "s3://bucket/model"})
    steps.call(f"{api}/registered-models/alias", {"name": "moving", "alias": "champion", "version": "2"})
    steps.call(f"{api}/model-versions/transition-stage", {"name": "moving", "version": "1", "stage": "Production"})
    experiment = steps.call(f"{api}/experiments/create", {"name": "moving"})["experiment_id"]
    run = steps.call(f"{api}/runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
    logged = [
        steps.call(f"{api}/logged-models", {"experiment_id": experiment, "name": name, "source_run_id": run}) for name in ("own", "other")
    ]
    return {
        "models:/moving@champion": "models:/moving/2",
        "models:/moving/latest": "models:/moving/3",
        "models:/moving/Latest": "models:/moving/3",
        "models:/moving/Production": "models:/moving/1",
        f"runs:/{run}/own": f"models:/{logged[0]['model']['info']['model_id']}",
    }


def test_the_step_and_the_sweep_resolve_addresses_alike(mlflow_server: str, registered: Mapping[str, str]) -> None:
    environment, server = {"MLFLOW_TRACKING_URI": mlflow_server}, mlflow.Tracking(mlflow_server)
    for address, exact in registered.items():
        moving = model_address.moving(address)
        assert moving is not None
        assert (server.exact(moving), tracking.exact(address, environment)) == (exact, exact)
        assert model_address.is_exact(exact)
        assert tracking.exact(exact, environment) == exact


NOTHING = [
    *("models:/moving@unknown", "models:/unknown@champion", "models:/moving/Staging", "models:/unknown/latest", "models:/unknown/Staging"),
    f"runs:/{'0' * 32}/own",
]


@pytest.mark.parametrize("address", NOTHING)
def test_an_address_that_names_nothing_is_none_to_the_sweep_and_an_error_to_the_step(
    mlflow_server: str, registered: Mapping[str, str], address: str
) -> None:
    moving = model_address.moving(address)
    assert moving is not None
    assert mlflow.Tracking(mlflow_server).exact(moving) is None
    with pytest.raises(sdk.StepError):
        tracking.exact(address, {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server})
