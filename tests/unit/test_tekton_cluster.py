"""Errors of the cluster: their types, and their messages, which contain nothing but the message of the server."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator

import pytest

from fuseml.domain import errors
from fuseml.engines.tekton import Cluster
from tests import commands
from tests.unit import kubernetes_api
from tests.unit.kubernetes_api import Api, Fault

CANARY = "canary-7f3a9c51e2"
POD_TEMPLATE = {"metadata": {"name": "r"}, "spec": {"note": CANARY}}
SECRET = {"metadata": {"name": "r"}, "stringData": {"secret.k": CANARY}}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api) -> Iterator[Cluster]:
    with kubernetes_api.serving(api) as url:
        opened = Cluster(kubernetes_api.NAMESPACE, host=url)
        yield opened
        opened.close()


def respond_with(api: Api, status: int | None, reason: str = "", message: str = "", **headers: str) -> None:
    body = json.dumps({"kind": "Status", "reason": reason, "message": message}) if reason else f"<html>{CANARY}</html>"
    fault = Fault(status=status, body=body, headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()))
    api.faults = lambda number, method, path: fault


CASES: dict[str, tuple[int, str, str, type[errors.FusemlError], str]] = {
    "unknown to the cluster": (
        401,
        "Unauthorized",
        "Unauthorized",
        errors.PermanentError,
        "refuses the credentials to create pipelineruns.*token",
    ),
    "forbidden": (
        403,
        "Forbidden",
        'pipelineruns.tekton.dev is forbidden: User "system:serviceaccount:fuseml:dispatcher" cannot create resource',
        errors.PermanentError,
        "may not create pipelineruns.tekton.dev in namespace 'fuseml-workloads'; grant the right: .* cannot create resource",
    ),
    "no such resource": (404, "NotFound", "the server could not find the requested resource", errors.NotFoundError, "is Tekton installed"),
    "there already": (409, "AlreadyExists", 'pipelineruns "r" already exists', errors.ConflictError, "already exists"),
    "refused by a webhook": (400, "BadRequest", "admission webhook denied the request: x", errors.InvalidError, "denied the request: x"),
    "invalid": (422, "Invalid", "spec.tasks[0].name: Invalid value", errors.InvalidError, "refuses to create .*Invalid value"),
    "too large": (413, "RequestEntityTooLarge", "limit is 3145728", errors.TooLargeError, "too large.*3145728"),
    "too many": (429, "TooManyRequests", "please try again later", errors.TemporaryError, r"now \(status 429\): please"),
    "broken": (500, "InternalError", "failed calling webhook: connection refused", errors.TemporaryError, "connection refused"),
    "away": (503, "ServiceUnavailable", "etcd is down", errors.TemporaryError, "etcd is down"),
    "odd": (418, "Teapot", "short and stout", errors.PermanentError, "answers 418 .*short and stout"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_error_status_has_its_type_and_message_and_reveals_no_content(name: str, api: Api, cluster: Cluster) -> None:
    status, reason, message, kind, expected = CASES[name]
    respond_with(api, status, reason, message)
    with pytest.raises(errors.FusemlError, match=expected) as caught:
        cluster.create_pipeline_run(POD_TEMPLATE)
    assert type(caught.value) is kind
    assert caught.value.details == {"status": status, "reason": reason}
    assert CANARY not in text_of(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 418, 422, 429, 500])
def test_errors_of_requests_with_secrets_do_not_contain_the_message_of_the_server(status: int, api: Api, cluster: Cluster) -> None:
    respond_with(api, status, "Invalid", f"data[secret.k]: Invalid value: {CANARY}")
    with pytest.raises(errors.FusemlError, match="secrets") as caught:
        cluster.create_secret(SECRET)
    assert CANARY not in text_of(caught.value)


def test_responses_of_other_servers_are_not_part_of_the_message(api: Api, cluster: Cluster) -> None:
    respond_with(api, 502)
    with pytest.raises(errors.TemporaryError) as caught:
        cluster.create_pipeline_run(POD_TEMPLATE)
    assert caught.value.message == "the cluster cannot create pipelineruns.tekton.dev in namespace 'fuseml-workloads' now (status 502)"
    assert CANARY not in text_of(caught.value)


def test_long_messages_of_the_server_are_cut(api: Api, cluster: Cluster) -> None:
    respond_with(api, 422, "Invalid", "x" * 5000)
    with pytest.raises(errors.InvalidError) as caught:
        cluster.create_pipeline_run(POD_TEMPLATE)
    assert caught.value.message.count("x") < 510


def test_retry_after_sets_the_delay(api: Api, cluster: Cluster) -> None:
    respond_with(api, 429, "TooManyRequests", "slow down", Retry_After="7")
    with pytest.raises(errors.TemporaryError) as caught:
        cluster.task_runs("a=b")
    assert caught.value.delay == 7.0


@pytest.mark.parametrize("call", ["create_pipeline_run", "create_secret"])
def test_a_broken_connection_is_temporary(call: str, api: Api, cluster: Cluster) -> None:
    respond_with(api, None)
    with pytest.raises(errors.TemporaryError, match="cannot be reached to create") as caught:
        getattr(cluster, call)({**POD_TEMPLATE, **SECRET})
    assert CANARY not in text_of(caught.value)


def test_an_unreachable_cluster_is_temporary() -> None:
    with kubernetes_api.serving(Api()) as url:
        pass
    cluster = Cluster("workloads", host=url)
    with pytest.raises(errors.TemporaryError, match="cannot be reached to list taskruns"):
        cluster.task_runs("a=b")
    cluster.close()


def test_secrets_are_not_logged_even_at_debug_level(api: Api, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cluster.create_secret(SECRET)
    assert cluster.secret("r") == {"secret.k": CANARY}
    assert cluster.secret_owners("r") == []
    assert CANARY not in caplog.text
    assert base64.b64encode(CANARY.encode()).decode() not in caplog.text


def test_the_error_without_a_pod_or_kubeconfig_names_both(tmp_path: object) -> None:
    script = (
        "from fuseml.domain import errors\n"
        "from fuseml.engines.tekton import Cluster\n"
        "try:\n    Cluster('workloads').task_runs('a=b')\n"
        "except errors.PermanentError as error:\n    print(error.message)\n"
    )
    process = commands.python(script, environment={"HOME": str(tmp_path)})
    assert process.stdout.startswith("no cluster to run on: this process has neither the service account of a pod nor a kubeconfig")


def test_importing_the_engine_does_not_import_the_client_of_kubernetes() -> None:
    script = "import sys; from fuseml.engines import tekton; tekton.TektonEngine(tekton.Cluster('n')); print('kubernetes' in sys.modules)"
    assert commands.python(script).stdout == "False\n"


def text_of(error: BaseException | None) -> str:
    """The text of an error as a log contains it, with its causes."""
    text = ""
    while error is not None:
        text += repr(error) + str(error) + repr(getattr(error, "details", ""))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text
