"""The typed client against a real HTTP server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from fuseml.client import api, predictions, transport
from fuseml.domain import errors
from tests.component import canned_api
from tests.component.canned_api import TOKEN, Answer, CannedApi, Request, refused


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve() as running:
        yield running


@pytest.fixture
def client(server: CannedApi) -> api.Client:
    server.requests.clear()
    return api.Client(server.url, TOKEN)


def test_objects_are_returned_unchanged_with_unknown_fields(client: api.Client) -> None:
    assert client.runs.get("mlflow-e2e-1") == canned_api.RUN
    assert client.applications.get("demo-diabetes") == canned_api.APPLICATION
    assert client.extensions.get("mlflow") == canned_api.EXTENSION
    assert list(client.codesets.list("demo")) == [canned_api.CODESET]
    assert client.artifacts.get("model://demo/diabetes/1") == canned_api.ARTIFACT


def test_every_request_carries_the_token_and_asks_for_json(client: api.Client, server: CannedApi) -> None:
    client.projects.get("demo")
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert server.requests[0].headers["accept"] == "application/json"


def test_no_representation_contains_the_token(client: api.Client) -> None:
    assert TOKEN not in repr(client) + repr(vars(client)["_transport"])


def test_absent_filters_are_not_sent(client: api.Client, server: CannedApi) -> None:
    list(client.runs.list(project="demo"))
    assert server.requests[0].query == {"project": ["demo"]}


def test_each_label_is_a_parameter(client: api.Client, server: CannedApi) -> None:
    registration = client.codesets.register("demo", "diabetes", labels=["sklearn", "tabular"])
    assert server.requests[0].query["labels"] == ["sklearn", "tabular"]
    assert (registration["username"], registration["password"]) == ("fuseml-demo", "canary")


def test_a_document_is_sent_unchanged(client: api.Client, server: CannedApi) -> None:
    client.workflows.create("name: mlflow-e2e  # a comment\n")
    assert server.requests[0].body == b"name: mlflow-e2e  # a comment\n"
    assert "yaml" in server.requests[0].headers["content-type"]
    client.extensions.update("mlflow", {"version": "3.2"}, revision=3)
    assert json.loads(server.requests[1].body) == {"version": "3.2"}
    assert server.requests[1].headers["if-match"] == '"3"'


def test_an_endpoint_is_addressed_by_its_url(client: api.Client, server: CannedApi) -> None:
    endpoints = client.extensions.endpoints("mlflow", "tracking")
    assert endpoints.update("http://other", {"type": "external"}) == {"url": "http://other"}
    endpoints.delete("http://other")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_changes_the_path_is_refused_without_a_request(client: api.Client, server: CannedApi, name: str) -> None:
    with pytest.raises(errors.InvalidError):
        client.projects.delete(name)
    assert server.requests == []


def test_a_name_with_a_slash_stays_one_segment(client: api.Client, server: CannedApi) -> None:
    with pytest.raises(errors.NotFoundError):
        client.projects.get("a/b?c")
    assert server.requests[0].path == "/projects/a/b?c"  # %2F and %3F as a WSGI server decodes them
    assert server.requests[0].query == {}


def _paged(request: Request) -> Answer:
    start = int(request.query.get("cursor", ["0"])[0])
    size = int(request.query.get("limit", ["100"])[0])
    items = [{"name": f"run-{number}"} for number in range(start, min(start + size, 250))]
    end = start + size
    link = {"Link": f'<http://elsewhere.example.org/runs?limit={size}&cursor={end}>; rel="next"'} if end < 250 else {}
    return Answer(items, headers=link)


def test_all_pages_of_a_list_are_read_from_the_same_server() -> None:
    with canned_api.serve({("GET", "/runs"): _paged}) as paged:
        client = api.Client(paged.url, TOKEN)
        assert [run["name"] for run in client.runs.list()] == [f"run-{number}" for number in range(250)]
        assert len(paged.requests) == 3


def test_a_limit_requests_no_more_items_than_it_returns() -> None:
    with canned_api.serve({("GET", "/runs"): _paged}) as paged:
        client = api.Client(paged.url, TOKEN)
        assert len(list(client.runs.list(limit=7))) == 7
        assert paged.requests[0].query["limit"] == ["7"]
        assert len(paged.requests) == 1
        assert len(list(client.runs.list(limit=130))) == 130
        assert list(client.runs.list(limit=0)) == []


REFUSALS = [
    (refused(400, "invalid", "no"), errors.InvalidError),
    (refused(401, "unauthenticated", "no"), errors.UnauthenticatedError),
    (refused(403, "forbidden", "no"), errors.ForbiddenError),
    (refused(404, "not_found", "no"), errors.NotFoundError),
    (refused(409, "conflict", "no"), errors.ConflictError),
    (refused(412, "stale", "no"), errors.StaleError),
    (refused(413, "too_large", "no"), errors.TooLargeError),
    (refused(422, "unresolved", "no", unresolved=["x"]), errors.UnresolvedError),
    (refused(503, "unavailable", "no"), errors.TemporaryError),
    (refused(400, "refused", "no"), errors.PermanentError),
    (refused(404, "a_name_of_a_newer_server", "no"), errors.NotFoundError),
    (refused(418, "a_name_of_a_newer_server", "no"), errors.PermanentError),
    (refused(500, "fault", "something went wrong"), errors.PermanentError),
    (Answer(b"<html>Bad Gateway</html>", 502), errors.TemporaryError),
    (Answer(b"I am another program", 404), errors.NotFoundError),
    (Answer([1], 400), errors.InvalidError),
    (Answer(status=302, headers={"Location": "http://elsewhere.example.org/"}), errors.PermanentError),
]


@pytest.mark.parametrize(("response", "kind"), REFUSALS)
def test_an_error_response_becomes_the_error_that_the_server_raised(response: Answer, kind: type[errors.FusemlError]) -> None:
    with canned_api.serve({("GET", "/projects/demo"): response}) as refusing, pytest.raises(errors.FusemlError) as caught:
        api.Client(refusing.url, TOKEN).projects.get("demo")
    assert type(caught.value) is kind
    assert TOKEN not in caught.value.message


def test_problems_keep_their_places_and_suggestions() -> None:
    problem = {"path": "steps[0].imag", "message": "unknown key 'imag'", "line": 7, "column": 5, "suggestion": "image"}
    refusal = refused(400, "invalid", "the body is not valid", problems=[problem], hint="x")
    with canned_api.serve({("POST", "/workflows"): refusal}) as refusing, pytest.raises(errors.InvalidError) as caught:
        api.Client(refusing.url, TOKEN).workflows.create("steps: []")
    assert caught.value.problems == (errors.Problem("steps[0].imag", "unknown key 'imag'", 7, 5, "image"),)
    assert caught.value.details["hint"] == "x"


def test_a_fault_of_the_server_names_the_id_of_its_log_entry() -> None:
    with (
        canned_api.serve({("GET", "/version"): refused(500, "fault", "something went wrong")}) as faulty,
        pytest.raises(errors.PermanentError, match="abc"),
    ):
        api.Client(faulty.url, TOKEN).version()


def test_an_unreachable_server_is_a_temporary_error_with_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(errors.TemporaryError, match=rf"no FuseML server answers at http://127\.0\.0\.1:{port}; start one with `fuseml up`"):
        api.Client(f"http://127.0.0.1:{port}").projects.get("demo")


def test_a_timeout_is_a_temporary_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(errors.TemporaryError, match=r"did not answer within 0\.1 s"):
        api.Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1).projects.get("demo")


def test_a_response_of_another_program_is_recognised() -> None:
    with canned_api.serve({("GET", "/projects"): Answer(b"hello"), ("GET", "/version"): Answer([])}) as other:
        client = api.Client(other.url, TOKEN)
        with pytest.raises(errors.PermanentError, match="not of the FuseML API"):
            list(client.projects.list())
        with pytest.raises(errors.PermanentError, match="not of the FuseML API"):
            client.version()


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://secret@host", "user:secret@host"])
def test_an_invalid_server_url_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        api.Client(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("fuseml.example.org", "https://fuseml.example.org"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost"),
        ("http://host/prefix/", "http://host/prefix"),
    ],
)
def test_a_url_without_a_scheme_is_https_except_on_this_machine(given: str, used: str) -> None:
    assert api.Client(given).url == used


def test_a_token_with_illegal_characters_is_refused() -> None:
    with pytest.raises(errors.InvalidError):
        api.Client("http://host", "two\nlines")


def test_a_url_template_selects_the_function_of_a_path() -> None:
    http = transport.Transport("http://{function}.fuseml.example.org", TOKEN, 1)
    paths = {
        "/projects": "codesets",
        "/codesets/demo/diabetes": "codesets",
        "/workflows": "workflows",
        "/workflows/assignments": "workflows",
        "/workflows/runs": "runs",
        "/runs/mlflow-e2e-1/logs/trainer": "runs",
        "/applications": "applications",
        "/artifacts": "artifacts",
        "/lineage": "artifacts",
        "/extensions/mlflow": "extensions",
        "/resolve": "resolver",
        "/version": "workflows",
    }
    assert {path: http.base(path) for path in paths} == {path: f"http://{name}.fuseml.example.org" for path, name in paths.items()}


def test_functions_below_one_url_receive_the_token() -> None:
    with canned_api.serve({("GET", "/codesets/projects"): Answer([canned_api.PROJECT])}) as server:
        assert list(api.Client(server.url + "/{function}", TOKEN).projects.list()) == [canned_api.PROJECT]


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://runs.fuseml.example.org/runs", True),
        ("https://runs.fuseml.example.org/runs", False),
        ("http://runs.fuseml.example.org.evil.example", False),
        ("http://a.b.fuseml.example.org/", False),
        ("http://runs-fuseml.example.org/", False),
    ],
)
def test_only_hosts_of_the_url_template_receive_the_token(url: str, own: bool) -> None:
    assert transport.Transport("http://{function}.fuseml.example.org", TOKEN, 1)._is_own(url) is own


def test_the_token_is_not_sent_to_another_host(server: CannedApi) -> None:
    with canned_api.serve({("GET", "/version"): Answer(b"3.17.2")}, token=None) as tool:
        assert api.Client(server.url, TOKEN).text_at(f"{tool.url}/version") == "3.17.2"
        assert "authorization" not in tool.requests[0].headers


def _log_in_pieces() -> dict[tuple[str, str], canned_api.Route]:
    whole = "süß ".encode() * 3
    pieces = iter([whole[:2], b"", whole[2:7], whole[7:]])

    def answer(request: Request) -> Answer:
        start = int(request.query["offset"][0])
        piece = next(pieces)
        assert whole[start : start + len(piece)] == piece
        done = start + len(piece) == len(whole)
        return Answer(piece, headers={"Fuseml-Log-Offset": str(start + len(piece)), "Fuseml-Log-Complete": str(done).lower()})

    return {("GET", "/runs/r/logs/s"): answer}


def test_a_log_is_followed_to_its_end_across_split_characters() -> None:
    waits: list[float] = []
    with canned_api.serve(_log_in_pieces()) as logging:
        client = api.Client(logging.url, TOKEN)
        assert "".join(client.runs.text("r", "s", follow=True, sleep=waits.append)) == "süß süß süß "
    assert len(waits) == 1


def test_a_growing_log_is_read_up_to_now() -> None:
    with canned_api.serve(_log_in_pieces()) as logging:
        assert "".join(api.Client(logging.url, TOKEN).runs.text("r", "s")) == "s\N{REPLACEMENT CHARACTER}"


def test_watching_ends_with_the_finished_run_and_survives_a_restart() -> None:
    states = iter([{"state": "queued"}, None, {"state": "running"}, {"state": "failed"}])

    def answer(request: Request) -> Answer:
        state = next(states)
        return Answer(state) if state else refused(503, "unavailable", "restarting")

    with canned_api.serve({("GET", "/runs/r"): answer}) as server:
        snapshots = list(api.Client(server.url, TOKEN).runs.watch("r", sleep=lambda _: None))
    assert [run["state"] for run in snapshots] == ["queued", "running", "failed"]


def test_watching_fails_when_the_server_stays_unreachable() -> None:
    time = iter(range(0, 1000, 10))
    with canned_api.serve({("GET", "/runs/r"): refused(503, "unavailable", "unreachable")}) as server, pytest.raises(errors.TemporaryError):
        list(api.Client(server.url, TOKEN).runs.watch("r", sleep=lambda _: None, clock=lambda: float(next(time))))


def test_following_ends_when_all_caused_runs_have_finished() -> None:
    """a causes b while it runs; b causes c after it has succeeded and before it is settled; d is followed beside a."""
    states = {name: iter(sequence) for name, sequence in {"a": ["running", "end", "settled"], "b": ["end", "settled"]}.items()}
    now = {"c": "settled", "d": "settled"}

    def one(name: str) -> Callable[[Request], Answer]:
        def answer(_: Request) -> Answer:
            now[name] = next(states[name]) if name in states else now[name]
            state = "running" if now[name] == "running" else "succeeded"
            return Answer({"name": name, "state": state, "settled": now[name] == "settled"})

        return answer

    def listed(request: Request) -> Answer:
        [cause] = request.query["caused_by"]
        caused = {"a": "b", "b": "c" if now.get("b") == "settled" else ""}.get(cause)
        return Answer([{"name": caused, "state": "queued", "caused_by": cause}] if caused else [])

    unreachable = iter([False, True, False, False, False, False, False, False, False, False])
    served = {("GET", f"/runs/{name}"): one(name) for name in "abcd"}
    changed = {("GET", "/runs"): lambda request: refused(503, "unavailable", "unreachable") if next(unreachable) else listed(request)}
    with canned_api.serve({**served, **changed}) as server:
        followed = list(api.Client(server.url, TOKEN).runs.follow(["a", "d"], sleep=lambda _: None))
    assert [run["name"] for run in followed[-1]] == ["a", "b", "d", "c"]
    assert {run["state"] for run in followed[-1]} == {"succeeded"}


def test_following_fails_when_the_server_stays_unreachable() -> None:
    time = iter(range(0, 1000, 10))
    with canned_api.serve({("GET", "/runs/r"): refused(503, "unavailable", "unreachable")}) as server, pytest.raises(errors.TemporaryError):
        list(api.Client(server.url, TOKEN).runs.follow(["r"], sleep=lambda _: None, clock=lambda: float(next(time))))


def test_a_server_that_is_not_ready_is_a_result() -> None:
    with canned_api.serve({("GET", "/readyz"): Answer({"status": "starting", "components": {}}, 503)}) as starting:
        assert api.Client(starting.url, TOKEN).readiness()["status"] == "starting"


def test_a_missing_artifact_is_not_found_and_a_malformed_address_invalid(client: api.Client) -> None:
    with pytest.raises(errors.NotFoundError):
        client.artifacts.get("model://demo/diabetes/2")
    with pytest.raises(errors.InvalidError, match="model://"):
        client.artifacts.get("diabetes")


ROW = {"age": 0.1, "bmi": 0.2}


def test_a_model_with_columns_receives_them_by_name_in_its_order() -> None:
    inputs = [{"name": "bmi", "datatype": "FP64", "shape": [-1, 1]}, {"name": "age", "datatype": "FP32", "shape": [-1]}]
    assert predictions.inference_request({"inputs": inputs}, [ROW]) == {
        "inputs": [
            {"name": "bmi", "datatype": "FP64", "shape": [1, 1], "data": [0.2]},
            {"name": "age", "datatype": "FP32", "shape": [1], "data": [0.1]},
        ]
    }


def test_a_model_with_one_tensor_receives_the_whole_row() -> None:
    metadata = {"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}]}
    assert predictions.inference_request(metadata, [ROW]) == {
        "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 2], "data": [0.1, 0.2]}]
    }


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"inputs": [{"name": "bmi", "shape": [-1]}, {"name": "height", "shape": [-1]}]},
        {"inputs": [{"name": "input-0", "shape": [-1, 3]}]},
    ],
)
def test_a_row_that_does_not_fit_the_model_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidError):
        predictions.inference_request(metadata, [ROW])


def test_several_rows_are_one_request_by_name_or_in_the_order_of_the_inputs() -> None:
    inputs = [{"name": "bmi", "datatype": "FP64", "shape": [-1, 1]}, {"name": "sex", "datatype": "BYTES", "shape": [-1]}]
    rows: list[predictions.Row] = [{"sex": "f", "bmi": 0.2, "height": 3}, [0.4, "m"]]
    assert predictions.inference_request({"inputs": inputs}, rows) == {
        "inputs": [
            {"name": "bmi", "datatype": "FP64", "shape": [2, 1], "data": [0.2, 0.4]},
            {"name": "sex", "datatype": "BYTES", "shape": [2], "data": ["f", "m"]},
        ]
    }
    tensor = {"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}]}
    assert predictions.inference_request(tensor, [[1, 2], [3, 4]]) == {
        "inputs": [{"name": "input-0", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]
    }


def test_a_prediction_is_the_data_of_the_first_output() -> None:
    metadata = {
        "name": "m",
        "inputs": [{"name": "age", "datatype": "FP64", "shape": [-1]}, {"name": "bmi", "datatype": "FP64", "shape": [-1]}],
    }
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/apps/a/v2/models/m"): Answer(metadata),
        ("POST", "/apps/a/v2/models/m/infer"): Answer(
            {"model_name": "m", "outputs": [{"name": "o", "datatype": "FP64", "shape": [1], "data": [151.5]}]}
        ),
    }
    with canned_api.serve(routes) as serving:
        assert api.Client(serving.url, TOKEN).predictions.predict(f"{serving.url}/apps/a/v2/models/m/infer", ROW) == [151.5]
        assert [item["name"] for item in json.loads(serving.requests[1].body)["inputs"]] == ["age", "bmi"]
