"""Every probe against its tool: MLflow, moto's S3 and our model server as they are, Gitea and an OCI registry by their exact answers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuseml import probes
from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.probes import discovery, fan_out
from fuseml.probes.targets import Target
from tests.waiting import PATIENCE

from . import conftest, test_model_server, tools
from .tools import CANARY


@pytest.fixture(scope="module")
def s3() -> Iterator[tools.Store]:
    with tools.s3_server() as running:
        yield running


def found(url: str, configuration: Mapping[str, str] | None = None, **credentials: str) -> extension.Extension:
    record = probes.detect(Target(url, configuration or {}, credentials))
    assert record is not None
    return record


def resources(record: extension.Extension) -> dict[str, str]:
    return {service.resource: service.endpoints[0].url for service in record.services}


def test_mlflow_says_its_version_and_that_it_keeps_artifacts(mlflow_server: str) -> None:
    mlflow_version = pytest.importorskip("mlflow.version")
    record = found(mlflow_server)
    assert (record.id, record.product, record.version) == ("mlflow", "mlflow", mlflow_version.VERSION)
    assert resources(record) == {"mlflow-tracking": mlflow_server, "mlflow-artifacts": f"{mlflow_server}/api/2.0/mlflow-artifacts"}
    tracking = record.services[0]
    assert tracking.category == "experiment-tracking"
    assert tracking.endpoints[0].type == "internal"
    assert tracking.endpoints[0].configuration == {"MLFLOW_TRACKING_URI": mlflow_server}
    assert not tracking.auth_required


def test_an_mlflow_that_asks_for_an_account_is_recognised_before_it_is_told_one(mlflow_server: str) -> None:
    with tools.serve(tools.guarded(mlflow_server, "ada", CANARY)) as closed:
        assert found(closed.url).services[0].auth_required
        assert closed.authorizations == []
        record = found(closed.url, MLFLOW_TRACKING_USERNAME="ada", MLFLOW_TRACKING_PASSWORD=CANARY, AWS_ACCESS_KEY_ID="other")
        assert "authorization" not in closed.asked[0][1]
    assert record.version == found(mlflow_server).version
    assert record.services[0].credentials[0].configuration == {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": CANARY}


def test_an_s3_server_is_recognised_without_an_account(s3: tools.Store) -> None:
    record = found(s3.url, {"AWS_DEFAULT_REGION": "lab"}, **s3.owner)
    [service] = record.services
    assert (record.product, service.resource, service.category) == ("s3", "s3", "object-storage")
    named = {"AWS_DEFAULT_REGION": "lab", "MLFLOW_S3_ENDPOINT_URL": s3.url, "AWS_ENDPOINT_URL_S3": s3.url}
    assert service.endpoints[0].configuration == named
    assert service.credentials[0].configuration == s3.owner


@pytest.mark.parametrize(
    ("headers", "status", "body", "product", "version"),
    [
        ({"Server": "MinIO", "x-amz-request-id": "17"}, 403, tools.ACCESS_DENIED[2], "minio", ""),
        ({"Server": "SeaweedFS S3/3.80", "x-amz-request-id": "17"}, 403, tools.ACCESS_DENIED[2], "seaweedfs", "3.80"),
        ({"Server": "AmazonS3", "Location": "https://aws.amazon.com/s3/"}, 307, b"", "aws-s3", ""),
        ({"Server": "nginx/1.25.3", "x-amz-request-id": "tx01"}, 200, b"<ListAllMyBucketsResult/>", "s3", ""),
    ],
)
def test_s3_products_are_told_apart(headers: tools.Headers, status: int, body: bytes, product: str, version: str) -> None:
    with tools.serve(tools.pages({"/": (status, headers, body)})) as server:
        record = found(server.url)
    assert (record.product, record.version) == (product, version)
    assert record.services[0].auth_required == (status != 200)


@pytest.mark.parametrize(
    ("said", "product", "version"),
    [("1.24.6", "gitea", "1.24.6"), ("9.0.3+gitea-1.22.0", "forgejo", "9.0.3"), ("7.0.0-dev-1", "gitea", "7.0.0-dev-1")],
)
def test_gitea_and_forgejo_say_their_versions(said: str, product: str, version: str) -> None:
    with tools.serve(tools.gitea(said)) as server:
        record = found(server.url)
    assert (record.product, record.version) == (product, version)
    assert resources(record) == {"git+http": server.url}


def test_others_that_say_a_version_at_the_same_place_are_no_gitea() -> None:
    airflow = tools.said(200, {"version": "2.9.1", "git_version": None})
    with tools.serve(tools.pages({"/api/v1/version": airflow})) as server:
        assert probes.detect(Target(server.url)) is None


@pytest.mark.parametrize("status", [200, 401])
def test_an_oci_registry_is_recognised_by_its_header(status: int) -> None:
    answer = tools.said(status, {}, Docker_Distribution_Api_Version="registry/2.0", WWW_Authenticate='Basic realm="r"')
    with tools.serve(tools.pages({"/v2/": answer})) as server:
        record = found(server.url)
    assert resources(record) == {"oci-registry": server.url}
    assert record.services[0].auth_required == (status == 401)


def test_our_own_model_server_is_no_mlflow(trained: conftest.Trained, tmp_path: Path) -> None:
    with test_model_server.serve(trained.ended.outputs["model"], tmp_path / "log", MLFLOW_TRACKING_URI=trained.mlflow) as running:
        record = found(running.url)
    assert (record.product, record.services[0].category) == ("fuseml-model-server", "prediction-serving")
    assert record.version.startswith("3.")
    assert resources(record) == {"open-inference": running.url}


def test_kserve_is_named_by_its_own_word() -> None:
    metadata = {"name": "KServe", "version": "0.15.2", "extensions": ["model_repository_extension"]}
    with tools.serve(tools.pages({"/base/v2": tools.said(200, metadata)})) as server:
        record = found(f"{server.url}/base/")
    assert (record.product, record.version) == ("kserve", "0.15.2")
    assert resources(record) == {"open-inference": f"{server.url}/base"}


def test_what_a_tool_says_is_not_believed_blindly() -> None:
    metadata = {"name": f"<script>{CANARY}", "version": "a" * 5_000, "extensions": []}
    with tools.serve(tools.pages({"/v2": tools.said(200, metadata)})) as server:
        record = found(server.url)
    assert (record.product, record.version) == ("inference-server", "")


@pytest.mark.parametrize("body", [b"", b"[" * 60_000, b"\xff\xfe", b"{}" * 100_000, b"<html>hello</html>"], ids=len)
def test_other_servers_are_nobody(body: bytes) -> None:
    with tools.serve(lambda *_: (200, {}, body)) as server:
        assert probes.detect(Target(server.url)) is None


def test_nobody_is_followed_to_another_place() -> None:
    with tools.serve(lambda *_: (200, {}, b"")) as trap:
        sends_away = tools.serve(lambda *_: (302, {"Location": f"{trap.url}/?{CANARY}"}, b""))
        with sends_away as server:
            [proposal] = discovery.propose([Target(server.url, {}, {"MLFLOW_TRACKING_TOKEN": CANARY})], {})
        assert trap.asked == []
    assert proposal.message == f"it sends visitors to {trap.url}; discover that address"


def test_a_mlflow_that_does_not_know_its_host_name_is_still_recognised_and_its_trouble_told() -> None:
    refused = (403, {}, b"Invalid Host header - possible DNS rebinding attack detected")
    search = "/api/2.0/mlflow/experiments/search?max_results=1&view_type=ALL"
    with tools.serve(tools.pages({search: refused, "/version": (200, {}, b"3.17.2")})) as server:
        assert found(server.url).version == "3.17.2"
        told = probes.check("mlflow-tracking", Target(server.url, {}, {"MLFLOW_TRACKING_TOKEN": CANARY}))
    assert told == f"MLflow does not answer to the host name of {server.url}; start it with --allowed-hosts that includes it"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def listening(send: bytes, every: float = 0.0) -> Iterator[str]:
    """A server that says `send` once, or again and again, and never ends."""
    stopping = threading.Event()

    def run() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(send)
            while not stopping.wait(every or 0.1):
                if every:
                    connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stopping.set()
        thread.join()


def test_an_endpoint_that_nobody_serves_is_explained() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert probes.check("s3", Target(url)) == f"nothing answers at {url}; start the tool, or correct the URL"


def test_an_endpoint_that_hangs_or_dribbles_costs_seconds_only() -> None:
    with listening(b"") as silent:
        assert "did not answer within 2 seconds" in (probes.check("x", Target(silent)) or "")
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", every=0.1) as dribbling:
        assert probes.check("x", Target(dribbling)) is None
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as other:
        assert "does not speak HTTP" in (probes.check("x", Target(other)) or "")


@pytest.mark.parametrize(("status", "well"), [(200, True), (302, True), (401, True), (404, True), (500, False), (503, False)])
def test_an_endpoint_is_well_when_it_answers_without_a_fault_of_its_own(status: int, well: bool) -> None:
    with tools.serve(lambda *_: (status, {}, CANARY.encode())) as server:
        told = probes.check("", Target(server.url))
    assert told == (None if well else f"{server.url} answers with {status}; its own log says why")


@pytest.mark.parametrize("url", ["s3://bucket", "grpc://x:1", "x", "", "http://[::1", "http://x:99999", "file:///etc/passwd"])
def test_what_is_not_http_cannot_be_asked(url: str) -> None:
    with pytest.raises(errors.InvalidError, match="not a URL that can be asked"):
        probes.check("s3", Target(url))


def test_s3_accounts_are_tried(s3: tools.Store) -> None:
    def check(**account: str) -> str | None:
        return probes.check("s3", Target(s3.url, {"AWS_DEFAULT_REGION": "eu-central-1"}, account))

    refusal = f"the S3 server at {s3.url} refuses these credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert check(**s3.owner) is None
    assert check(**s3.guest) is None, "it may not list buckets, but the server knows it"
    assert check(**{**s3.owner, "AWS_SECRET_ACCESS_KEY": CANARY}) == refusal
    assert check(AWS_ACCESS_KEY_ID=CANARY, AWS_SECRET_ACCESS_KEY=CANARY) == refusal


def test_mlflow_accounts_are_tried(mlflow_server: str) -> None:
    with tools.serve(tools.guarded(mlflow_server, "ada", CANARY)) as closed:

        def check(username: str, password: str) -> str | None:
            account = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
            return probes.check("mlflow-tracking", Target(closed.url, {}, account))

        assert check("ada", CANARY) is None
        told = check("ada", f"wrong {CANARY}")
    assert told is not None
    assert "refuses these credentials; correct MLFLOW_TRACKING_USERNAME" in told
    assert CANARY not in told


@pytest.mark.parametrize("resource", ["git", "git+http", "git+https"])
def test_git_accounts_are_tried(resource: str) -> None:
    with tools.serve(tools.gitea()) as server:

        def check(**account: str) -> str | None:
            return probes.check(resource, Target(server.url, {}, account))

        assert check(username="fuseml", password=CANARY) is None
        assert check(token=CANARY) is None
        assert check(username="fuseml", password="old") == (
            f"the git host at {server.url} refuses these credentials; correct username and password, or token"
        )


@pytest.mark.parametrize(
    ("resource", "credentials", "reason"),
    [
        ("kserve-api", {"CLIENT_KEY": CANARY}, "no probe knows how to try credentials of kserve-api"),
        ("s3", {"AWS_ACCESS_KEY_ID": CANARY}, "they hold no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("mlflow-tracking", {"user": CANARY}, "they hold no MLFLOW_TRACKING_USERNAME"),
        ("git", {"username": CANARY}, "they hold no username and password"),
    ],
)
def test_credentials_that_nobody_can_try_are_no_trouble_and_not_well(resource: str, credentials: dict[str, str], reason: str) -> None:
    with pytest.raises(errors.PermanentError, match=reason) as caught:
        probes.check(resource, Target("http://127.0.0.1:9", {}, credentials))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("resource", "credentials"),
    [
        ("s3", {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": CANARY}),
        ("mlflow-tracking", {"MLFLOW_TRACKING_TOKEN": CANARY}),
        ("git", {"token": CANARY}),
    ],
)
def test_an_endpoint_that_is_away_or_broken_says_nothing_about_credentials(resource: str, credentials: dict[str, str]) -> None:
    with pytest.raises(errors.TemporaryError, match="nothing answers"):
        probes.check(resource, Target(f"http://127.0.0.1:{closed_port()}", {}, credentials))
    with (
        tools.serve(lambda *_: (502, {}, CANARY.encode())) as broken,
        pytest.raises(errors.TemporaryError, match="answered 502, which says nothing about the credentials") as caught,
    ):
        probes.check(resource, Target(broken.url, {}, credentials))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("key", ["MLFLOW_TRACKING_TOKEN", "token", "AWS_ACCESS_KEY_ID"])
def test_a_secret_with_a_line_break_is_explained_and_not_quoted(key: str) -> None:
    resource = {"MLFLOW_TRACKING_TOKEN": "mlflow-tracking", "token": "git", "AWS_ACCESS_KEY_ID": "s3"}[key]
    with tools.serve(tools.gitea()) as server:
        told = probes.check(resource, Target(server.url, {}, {key: f"{CANARY}\n\n", "AWS_SECRET_ACCESS_KEY": CANARY}))
    assert told == "the credentials hold characters that cannot be sent, such as a line break; correct them"


def test_a_url_with_a_password_shows_it_nowhere() -> None:
    told = probes.check("", Target(f"http://ada:{CANARY}@127.0.0.1:{closed_port()}/{CANARY}?{CANARY}"))
    assert told is not None
    assert CANARY not in told


def test_proposals_come_in_order_and_tell_new_known_and_unknown(mlflow_server: str) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    with tools.serve(tools.gitea()) as git, tools.serve(tools.pages({})) as other:
        wanted = [Target(url) for url in (dead, f"{mlflow_server}/", git.url, other.url, mlflow_server)]
        proposals = discovery.propose(wanted, {git.url: "our-git"})
        assert git.asked == []
    assert [(proposal.url, proposal.state) for proposal in proposals] == [
        (dead, "unknown"),
        (mlflow_server, "new"),
        (git.url, "known"),
        (other.url, "unknown"),
    ]
    assert "nothing answers" in proposals[0].message
    assert proposals[2].id == "our-git"
    assert "register it with `fuseml extension register`" in proposals[3].message


def test_credentials_that_are_refused_are_left_out_of_a_proposal(s3: tools.Store) -> None:
    wrong = {**s3.owner, "AWS_SECRET_ACCESS_KEY": CANARY}
    [refused] = discovery.propose([Target(s3.url, {}, wrong)], {})
    assert refused.extension is not None
    assert refused.extension.services[0].credentials == ()
    assert refused.message.endswith("they are left out")
    [kept] = discovery.propose([Target(s3.url, {}, s3.owner)], {})
    assert kept.extension is not None
    assert kept.extension.services[0].credentials[0].configuration == s3.owner
    shown = discovery.hidden(kept)
    assert s3.owner["AWS_SECRET_ACCESS_KEY"] not in json.dumps(shown.model_dump(mode="json")) + repr(kept)


def test_a_taken_name_gives_way_to_a_generated_one() -> None:
    draft = extension.Extension(id="mlflow", product="mlflow")
    asked: list[str] = []

    def create(record: extension.Extension) -> extension.Extension:
        asked.append(record.id)
        if record.id:
            raise errors.ConflictError("taken")
        return record.model_copy(update={"id": "mlflow-generated"})

    proposal = discovery.register(discovery.Proposal(url="http://x", state="new", extension=draft), create)
    assert (asked, proposal.state, proposal.id) == (["mlflow", ""], "registered", "mlflow-generated")


def test_a_crowd_is_asked_at_once_and_not_waited_for_beyond_the_limit() -> None:
    together, gate = threading.Barrier(3, timeout=PATIENCE), threading.Event()

    def answer(name: str) -> str:
        if name == "hanging":
            gate.wait(PATIENCE)
        else:
            together.wait()
        return name.upper()

    answers = dict(fan_out.fan_out(answer, ["hanging", "a", "b", "c"], 2.0))
    assert answers == {"a": "A", "b": "B", "c": "C"}
    assert not gate.is_set()
    gate.set()
