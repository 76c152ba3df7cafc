"""Every probe against its tool: real MLflow, moto's S3 and FuseML's model server, and the recorded responses of Gitea and an OCI registry."""

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


def detect(url: str, configuration: Mapping[str, str] | None = None, **credentials: str) -> extension.Extension:
    record = probes.detect(Target(url, configuration or {}, credentials))
    assert record is not None
    return record


def resources(record: extension.Extension) -> dict[str, str]:
    return {service.resource: service.endpoints[0].url for service in record.services}


def test_mlflow_is_recognised_with_version_and_artifacts(mlflow_server: str) -> None:
    mlflow_version = pytest.importorskip("mlflow.version")
    record = detect(mlflow_server)
    assert (record.id, record.product, record.version) == ("mlflow", "mlflow", mlflow_version.VERSION)
    assert resources(record) == {"mlflow-tracking": mlflow_server, "mlflow-artifacts": f"{mlflow_server}/api/2.0/mlflow-artifacts"}
    tracking = record.services[0]
    assert tracking.category == "experiment-tracking"
    assert tracking.endpoints[0].type == "internal"
    assert tracking.endpoints[0].configuration == {"MLFLOW_TRACKING_URI": mlflow_server}
    assert not tracking.auth_required


def test_a_closed_mlflow_is_recognised_before_credentials_are_sent(mlflow_server: str) -> None:
    with tools.serve(tools.guarded(mlflow_server, "ada", CANARY)) as closed:
        assert detect(closed.url).services[0].auth_required
        assert closed.authorizations == []
        record = detect(closed.url, MLFLOW_TRACKING_USERNAME="ada", MLFLOW_TRACKING_PASSWORD=CANARY, AWS_ACCESS_KEY_ID="other")
        assert "authorization" not in closed.requests[0][1]
    assert record.version == detect(mlflow_server).version
    assert record.services[0].credentials[0].configuration == {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": CANARY}


ACCOUNT = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": CANARY}


@pytest.mark.parametrize(
    ("location", "store", "url", "configuration"),
    [
        (
            "s3://models/1",
            Target("http://minio.lab:9000", {"AWS_DEFAULT_REGION": "lab"}, ACCOUNT),
            "http://minio.lab:9000",
            {
                "AWS_DEFAULT_REGION": "lab",
                "MLFLOW_S3_ENDPOINT_URL": "http://minio.lab:9000",
                "AWS_ENDPOINT_URL_S3": "http://minio.lab:9000",
            },
        ),
        ("s3://models/1", Target("https://s3.eu-central-1.amazonaws.com", {}, ACCOUNT), "https://s3.eu-central-1.amazonaws.com", {}),
        ("s3://models/1", None, "https://s3.us-east-1.amazonaws.com", {}),
        ("mlflow-artifacts:/1", Target("http://minio.lab:9000", {}, ACCOUNT), "", {}),
    ],
)
def test_an_mlflow_whose_clients_use_s3_offers_it(location: str, store: Target | None, url: str, configuration: dict[str, str]) -> None:
    found = json.dumps({"experiments": [{"experiment_id": "1", "name": "Default", "artifact_location": location}]}).encode()

    def answer(path: str, _: tools.Headers) -> tools.Answer:
        return (200, {}, found) if "experiments/search" in path else (503 if "artifacts" in path else 200, {}, b"3.17.2")

    with tools.serve(answer) as server:
        record = probes.detect(Target(server.url, store=store))
    assert record is not None
    offered = [service for service in record.services if service.resource == "s3"]
    assert [(service.id, service.category, service.auth_required) for service in offered] == (
        [("mlflow-s3", "model-store", True)] if url else []
    )
    for service in offered:
        assert (service.endpoints[0].url, service.endpoints[0].configuration) == (url, configuration)
        assert [item.configuration for item in service.credentials] == ([ACCOUNT] if store else [])


def test_an_s3_server_is_recognised_without_an_account(s3: tools.Store) -> None:
    record = detect(s3.url, {"AWS_DEFAULT_REGION": "lab"}, **s3.owner)
    [service] = record.services
    assert (record.product, service.resource, service.category) == ("s3", "s3", "object-storage")
    variables = {"AWS_DEFAULT_REGION": "lab", "MLFLOW_S3_ENDPOINT_URL": s3.url, "AWS_ENDPOINT_URL_S3": s3.url}
    assert service.endpoints[0].configuration == variables
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
def test_s3_products_are_distinguished(headers: tools.Headers, status: int, body: bytes, product: str, version: str) -> None:
    with tools.serve(tools.pages({"/": (status, headers, body)})) as server:
        record = detect(server.url)
    assert (record.product, record.version) == (product, version)
    assert record.services[0].auth_required == (status != 200)


@pytest.mark.parametrize(
    ("reported", "product", "version"),
    [("1.24.6", "gitea", "1.24.6"), ("9.0.3+gitea-1.22.0", "forgejo", "9.0.3"), ("7.0.0-dev-1", "gitea", "7.0.0-dev-1")],
)
def test_gitea_and_forgejo_are_recognised_with_their_versions(reported: str, product: str, version: str) -> None:
    with tools.serve(tools.gitea(reported)) as server:
        record = detect(server.url)
    assert (record.product, record.version) == (product, version)
    assert resources(record) == {"git+http": server.url}


def test_other_tools_with_the_same_version_route_are_no_gitea() -> None:
    airflow = tools.json_response(200, {"version": "2.9.1", "git_version": None})
    with tools.serve(tools.pages({"/api/v1/version": airflow})) as server:
        assert probes.detect(Target(server.url)) is None


@pytest.mark.parametrize("status", [200, 401])
def test_an_oci_registry_is_recognised_by_its_header(status: int) -> None:
    answer = tools.json_response(status, {}, Docker_Distribution_Api_Version="registry/2.0", WWW_Authenticate='Basic realm="r"')
    with tools.serve(tools.pages({"/v2/": answer})) as server:
        record = detect(server.url)
    assert resources(record) == {"oci-registry": server.url}
    assert record.services[0].auth_required == (status == 401)


def test_the_model_server_of_fuseml_is_no_mlflow(trained: conftest.Trained, tmp_path: Path) -> None:
    with test_model_server.serve(trained.ended.outputs["model"], tmp_path / "log", MLFLOW_TRACKING_URI=trained.mlflow) as running:
        record = detect(running.url)
    assert (record.product, record.services[0].category) == ("fuseml-model-server", "prediction-serving")
    assert record.version.startswith("3.")
    assert resources(record) == {"open-inference": running.url}


def test_kserve_is_recognised_by_its_metadata() -> None:
    metadata = {"name": "KServe", "version": "0.15.2", "extensions": ["model_repository_extension"]}
    with tools.serve(tools.pages({"/base/v2": tools.json_response(200, metadata)})) as server:
        record = detect(f"{server.url}/base/")
    assert (record.product, record.version) == ("kserve", "0.15.2")
    assert resources(record) == {"open-inference": f"{server.url}/base"}


def test_invalid_names_and_versions_of_a_tool_are_dropped() -> None:
    metadata = {"name": f"<script>{CANARY}", "version": "a" * 5_000, "extensions": []}
    with tools.serve(tools.pages({"/v2": tools.json_response(200, metadata)})) as server:
        record = detect(server.url)
    assert (record.product, record.version) == ("inference-server", "")


@pytest.mark.parametrize("body", [b"", b"[" * 60_000, b"\xff\xfe", b"{}" * 100_000, b"<html>hello</html>"], ids=len)
def test_other_servers_are_not_recognised(body: bytes) -> None:
    with tools.serve(lambda *_: (200, {}, body)) as server:
        assert probes.detect(Target(server.url)) is None


def test_redirects_are_not_followed() -> None:
    with tools.serve(lambda *_: (200, {}, b"")) as trap:
        redirecting = tools.serve(lambda *_: (302, {"Location": f"{trap.url}/?{CANARY}"}, b""))
        with redirecting as server:
            [proposal] = discovery.propose([Target(server.url, {}, {"MLFLOW_TRACKING_TOKEN": CANARY})], {})
        assert trap.requests == []
    assert proposal.message == f"it redirects to {trap.url}; discover that URL"


def test_an_mlflow_that_rejects_the_host_name_is_recognised_and_explained() -> None:
    refused: tools.Answer = (403, {}, b"Invalid Host header - possible DNS rebinding attack detected")
    search = "/api/2.0/mlflow/experiments/search?max_results=1&view_type=ALL"
    with tools.serve(tools.pages({search: refused, "/version": (200, {}, b"3.17.2")})) as server:
        assert detect(server.url).version == "3.17.2"
        problem = probes.check("mlflow-tracking", Target(server.url, {}, {"MLFLOW_TRACKING_TOKEN": CANARY}))
    assert problem == f"MLflow rejects the host name of {server.url}; start it with --allowed-hosts that includes it"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def listening(send: bytes, every: float = 0.0) -> Iterator[str]:
    """A server that sends `send`, then a byte every `every` seconds if that is given, and never closes."""
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


def test_a_closed_port_is_explained() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert probes.check("s3", Target(url)) == f"nothing answers at {url}; start the tool, or correct the URL"


def test_a_silent_or_slow_endpoint_is_bounded_in_time() -> None:
    with listening(b"") as silent:
        assert "did not answer within 2 seconds" in (probes.check("x", Target(silent)) or "")
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", every=0.1) as slow:
        assert probes.check("x", Target(slow)) is None
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as other:
        assert "does not speak HTTP" in (probes.check("x", Target(other)) or "")


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (302, True), (401, True), (404, True), (500, False), (503, False)])
def test_an_endpoint_is_healthy_unless_it_responds_with_a_server_error(status: int, healthy: bool) -> None:
    with tools.serve(lambda *_: (status, {}, CANARY.encode())) as server:
        problem = probes.check("", Target(server.url))
    assert problem == (None if healthy else f"{server.url} responds with status {status}; see its log")


@pytest.mark.parametrize("url", ["s3://bucket", "grpc://x:1", "x", "", "http://[::1", "http://x:99999", "file:///etc/passwd"])
def test_other_urls_than_http_are_refused(url: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"not an http\(s\) URL"):
        probes.check("s3", Target(url))


def test_s3_accounts_are_checked(s3: tools.Store) -> None:
    def check(**account: str) -> str | None:
        return probes.check("s3", Target(s3.url, {"AWS_DEFAULT_REGION": "eu-central-1"}, account))

    refusal = f"the S3 server at {s3.url} refuses these credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert check(**s3.owner) is None
    assert check(**s3.guest) is None, "the account is valid without the permission to list buckets"
    assert check(**{**s3.owner, "AWS_SECRET_ACCESS_KEY": CANARY}) == refusal
    assert check(AWS_ACCESS_KEY_ID=CANARY, AWS_SECRET_ACCESS_KEY=CANARY) == refusal


def test_mlflow_accounts_are_checked(mlflow_server: str) -> None:
    with tools.serve(tools.guarded(mlflow_server, "ada", CANARY)) as closed:

        def check(username: str, password: str) -> str | None:
            account = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
            return probes.check("mlflow-tracking", Target(closed.url, {}, account))

        assert check("ada", CANARY) is None
        problem = check("ada", f"wrong {CANARY}")
    assert problem is not None
    assert "refuses these credentials; correct MLFLOW_TRACKING_USERNAME" in problem
    assert CANARY not in problem


@pytest.mark.parametrize("resource", ["git", "git+http", "git+https"])
def test_git_accounts_are_checked(resource: str) -> None:
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
        ("kserve-api", {"CLIENT_KEY": CANARY}, "no probe can check credentials of kserve-api"),
        ("s3", {"AWS_ACCESS_KEY_ID": CANARY}, "they have no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("mlflow-tracking", {"user": CANARY}, "they have no MLFLOW_TRACKING_USERNAME"),
        ("git", {"username": CANARY}, "they have no username and password"),
    ],
)
def test_credentials_without_a_check_raise_a_permanent_error(resource: str, credentials: dict[str, str], reason: str) -> None:
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
def test_an_unavailable_endpoint_does_not_decide_about_credentials(resource: str, credentials: dict[str, str]) -> None:
    with pytest.raises(errors.TemporaryError, match="nothing answers"):
        probes.check(resource, Target(f"http://127.0.0.1:{closed_port()}", {}, credentials))
    with (
        tools.serve(lambda *_: (502, {}, CANARY.encode())) as broken,
        pytest.raises(errors.TemporaryError, match="responded with status 502, which does not decide about the credentials") as caught,
    ):
        probes.check(resource, Target(broken.url, {}, credentials))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("key", ["MLFLOW_TRACKING_TOKEN", "token", "AWS_ACCESS_KEY_ID"])
def test_a_secret_with_a_line_break_is_not_quoted(key: str) -> None:
    resource = {"MLFLOW_TRACKING_TOKEN": "mlflow-tracking", "token": "git", "AWS_ACCESS_KEY_ID": "s3"}[key]
    with tools.serve(tools.gitea()) as server:
        problem = probes.check(resource, Target(server.url, {}, {key: f"{CANARY}\n\n", "AWS_SECRET_ACCESS_KEY": CANARY}))
    assert problem == "the credentials hold characters that cannot be sent, such as a line break; correct them"


def test_the_password_in_a_url_is_not_quoted() -> None:
    problem = probes.check("", Target(f"http://ada:{CANARY}@127.0.0.1:{closed_port()}/{CANARY}?{CANARY}"))
    assert problem is not None
    assert CANARY not in problem


def test_proposals_are_in_order_with_their_states(mlflow_server: str) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    with tools.serve(tools.gitea()) as git, tools.serve(tools.pages({})) as other:
        candidates = [Target(url) for url in (dead, f"{mlflow_server}/", git.url, other.url, mlflow_server)]
        proposals = discovery.propose(candidates, {git.url: "our-git"})
        assert git.requests == []
    assert [(proposal.url, proposal.state) for proposal in proposals] == [
        (dead, "unknown"),
        (mlflow_server, "new"),
        (git.url, "known"),
        (other.url, "unknown"),
    ]
    assert "nothing answers" in proposals[0].message
    assert proposals[2].id == "our-git"
    assert "register it with `fuseml extension register`" in proposals[3].message


def test_a_proposal_omits_refused_credentials(s3: tools.Store) -> None:
    wrong = {**s3.owner, "AWS_SECRET_ACCESS_KEY": CANARY}
    [refused] = discovery.propose([Target(s3.url, {}, wrong)], {})
    assert refused.extension is not None
    assert refused.extension.services[0].credentials == ()
    assert refused.message.endswith("the proposal omits them")
    [accepted] = discovery.propose([Target(s3.url, {}, s3.owner)], {})
    assert accepted.extension is not None
    assert accepted.extension.services[0].credentials[0].configuration == s3.owner
    shown = discovery.without_secrets(accepted)
    assert s3.owner["AWS_SECRET_ACCESS_KEY"] not in json.dumps(shown.model_dump(mode="json")) + repr(accepted)


def test_a_taken_id_is_replaced_by_a_generated_one() -> None:
    draft = extension.Extension(id="mlflow", product="mlflow")
    attempts: list[str] = []

    def create(record: extension.Extension) -> extension.Extension:
        attempts.append(record.id)
        if record.id:
            raise errors.ConflictError("taken")
        return record.model_copy(update={"id": "mlflow-generated"})

    proposal = discovery.register(discovery.Proposal(url="http://x", state="new", extension=draft), create)
    assert (attempts, proposal.state, proposal.id) == (["mlflow", ""], "registered", "mlflow-generated")


def test_fan_out_is_concurrent_and_bounded_in_time() -> None:
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
