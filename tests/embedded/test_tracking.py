"""The embedded MLflow as people, steps and strangers reach it: by MLflow's own client, a browser's requests, and its socket."""

from __future__ import annotations

import importlib.resources
import json
import os
import pathlib
import re
import shutil
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import urllib3

from fuseml.embedded import upstream
from tests import commands
from tests.embedded import servers
from tests.waiting import PATIENCE, wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

EXAMPLES = importlib.resources.files("fuseml") / "examples"
SEARCH = "/mlflow/api/2.0/mlflow/experiments/search?max_results=1"
LARGE = 20 << 20

CLIENT = f"""
import hashlib, mlflow, pathlib, sys
folder = pathlib.Path(sys.argv[1])
large = folder / "large"
large.write_bytes(bytes(range(256)) * ({LARGE} // 256))
mlflow.set_experiment("clients")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    mlflow.log_artifact(str(large), "a folder")
back = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="a folder/large", dst_path=str(folder / "back"))
assert pathlib.Path(back).read_bytes() == large.read_bytes()
assert [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["a folder"]
print(run.info.run_id)
"""

# The run's codeset: it uses its token for everything that it should not do, and leaves it for later.
PROBE = """\
import json, os, urllib.request, urllib.error
token, base = os.environ["MLFLOW_TRACKING_TOKEN"], os.environ["MLFLOW_TRACKING_URI"].removesuffix("/mlflow")
def status(method, path, token=token):
    request = urllib.request.Request(base + path, method=method, headers={"Authorization": f"Bearer {token}"}, data=b"{}" if method == "POST" else None)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
seen = {path: status("GET", path) for path in ("/mlflow/api/2.0/mlflow/experiments/search?max_results=1", "/applications", "/runs", "/extensions", "/events", "/projects")}
seen["register"] = status("POST", "/applications")
with open(os.path.join(os.environ["FUSEML_ENV_RESULTS"], "seen"), "w") as file:
    file.write(json.dumps({"seen": seen, "token": token[::-1]}))
"""

WORKFLOW = {
    "name": "probe",
    "outputs": [{"name": "seen"}],
    "steps": [
        {
            "name": "probe",
            "image": "fuseml.local/shell:1",
            "script": f"#!/usr/bin/env python3\n{PROBE}",
            "extensions": [{"name": "tracking", "service_resource": "mlflow-tracking"}],
            "outputs": [{"name": "seen"}],
        }
    ],
}


# It gets the files of a model without a client of MLflow.
READER = {
    "name": "reader",
    "inputs": [{"name": "model", "type": "model"}],
    "outputs": [{"name": "text"}],
    "steps": [
        {
            "name": "read",
            "image": "fuseml.local/shell:1",
            "inputs": [{"name": "model", "artifact": {"address": "{{ inputs.model }}", "path": "/model"}}],
            "script": 'grep "^flavors:" "$FUSEML_MODEL/MLmodel" > "$FUSEML_ENV_RESULTS/text"',
            "outputs": [{"name": "text"}],
        }
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("tracking") / "home") as running:
        running.tracking_ready()
        yield running


def request(server: servers.Server, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, server.url + path, headers=headers, body=body, redirect=False, retries=False, timeout=PATIENCE)


def basic(user: str, password: str) -> Mapping[str, str]:
    return urllib3.make_headers(basic_auth=f"{user}:{password}")


def test_a_token_is_needed_in_either_form(server: servers.Server) -> None:
    token, ended = server.token, "fuseml-step.eyJ.abc"
    accepted = [{"Authorization": f"Bearer {token}"}, basic("", token), basic("anybody", token)]
    refused = [
        {},
        {"Authorization": "Bearer wrong"},
        basic(token, ""),
        basic("x", "wrong"),
        {"Authorization": token},
        {"Authorization": f"Bearer {ended}"},
    ]
    assert [request(server, "GET", SEARCH, headers).status for headers in accepted] == [200] * 3
    assert [request(server, "GET", SEARCH, headers).status for headers in refused] == [401] * 6
    assert request(server, "POST", "/mlflow/api/2.0/mlflow/experiments/create", {}, b'{"name": "stranger"}').status == 401


@pytest.mark.parametrize(
    "path", ["/mlflow/../extensions", "/mlflow/%2e%2e/extensions", "/mlflow/static-files/..%2f..%2fhealth", "/mlflow/./health"]
)
def test_no_path_leaves_the_prefix(server: servers.Server, path: str) -> None:
    host, port = urllib.parse.urlsplit(server.url).netloc.split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: raw.recv(1 << 16), b""))
    assert answer.split()[1] in (b"400", b"404"), answer[:200]


def test_mlflows_own_client_works_through_the_server(server: servers.Server, tmp_path: pathlib.Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    for number, account in enumerate(
        ({"MLFLOW_TRACKING_TOKEN": server.token}, {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": server.token})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        commands.python(CLIENT, folder, environment={**bare, "MLFLOW_TRACKING_URI": f"{server.url}/mlflow", **account})


def test_a_browser_signs_in_once_and_the_cookie_opens_the_ui_only(server: servers.Server) -> None:
    page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
    first = request(server, "GET", "/mlflow/", page)
    assert (first.status, first.headers["Location"]) == (303, "/mlflow/sign-in")
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert request(server, "POST", "/mlflow/sign-in", form, b"token=wrong").status == 403
    foreign = {**form, "Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}
    assert request(server, "POST", "/mlflow/sign-in", foreign, f"token={server.token}".encode()).status == 403
    answer = request(server, "POST", "/mlflow/sign-in", form, f"token={server.token}".encode())
    assert (answer.status, answer.headers["Location"]) == (303, "/mlflow/")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/mlflow"} <= {part.strip() for part in cookie.split(";")}
    assert server.token not in cookie
    own = {"Cookie": cookie.split(";")[0], "Sec-Fetch-Site": "same-origin"}
    ui = request(server, "GET", "/mlflow/", {**own, **page})
    assert ui.status == 200
    script = re.search(rb'src="(static-files/[^"]+\.js)"', ui.data)
    assert script is not None
    assert request(server, "GET", f"/mlflow/{script[1].decode()}", own).status == 200
    search = "/mlflow/ajax-api/2.0/mlflow/experiments/search"
    posted = {**own, "Origin": server.url, "Content-Type": "application/json"}
    assert request(server, "POST", search, posted, b'{"max_results": 1}').status == 200
    for strange in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        assert request(server, "POST", search, {**posted, **strange}, b"{}").status == 401, strange
    assert request(server, "POST", search, {"Cookie": own["Cookie"], "Content-Type": "application/json"}, b"{}").status == 401
    for path in ("/applications", "/extensions", "/runs"):
        assert request(server, "GET", path, own).status == 401
    changed = {**own, "Cookie": own["Cookie"][:-1] + ("0" if own["Cookie"][-1] != "0" else "1")}
    assert request(server, "GET", SEARCH, changed).status == 401


def test_other_processes_are_refused_at_its_socket_and_it_has_no_port(server: servers.Server) -> None:
    folder = server.home / "mlflow"
    (path,) = [*folder.rglob("*.sock")] or [pathlib.Path(match) for match in _sockets()]
    assert path.parent.stat().st_mode & 0o777 == 0o700
    pool = upstream.SocketFilePool(path)
    for headers in ({}, {"x-fuseml-key": "wrong"}, {"Authorization": f"Bearer {server.token}"}):
        assert pool.request("GET", "/mlflow/health", headers=headers).status == 401
        assert pool.request("POST", "/mlflow/api/2.0/mlflow/experiments/create", body=b'{"name": "x"}', headers=headers).status == 401
    forwarded = {"Authorization": f"Bearer {server.token}", "x-fuseml-key": "wrong"}
    assert request(server, "GET", SEARCH, forwarded).status == 200
    pool.close()


def _sockets() -> list[str]:
    return re.findall(r"\S*/fuseml-\w+/server\.sock", pathlib.Path("/proc/net/unix").read_text())


def test_discovery_registers_it_and_a_step_reaches_it_with_its_own_token_while_it_runs(server: servers.Server) -> None:
    (proposal,) = server.post("/extensions/discover", {"urls": [f"{server.url}/mlflow"], "apply": True})["proposals"]
    assert (proposal["state"], proposal["id"]) == ("registered", "mlflow")
    assert server.token not in json.dumps(server.get("/extensions/mlflow"))
    server.post("/projects?name=demo")
    server.post("/workflows", WORKFLOW)
    server.post("/runs", {"workflow": "probe", "project": "demo"})
    finished = server.finished_run("probe-1")
    assert (finished["state"], finished["cause"]) == ("succeeded", None)
    report = json.loads(finished["outputs"]["seen"])
    search = next(iter(report["seen"]))
    assert report["seen"].pop(search) == 200
    assert set(report["seen"].values()) == {403}
    token = report["token"][::-1]
    assert token.startswith("fuseml-step.")
    ended = request(server, "GET", SEARCH, {"Authorization": f"Bearer {token}"})
    assert (ended.status, b"ended with its run" in ended.data) == (401, True)
    journal = b"".join(path.read_bytes() for path in (server.home / "runs").rglob("*") if path.is_file() and path.name != "step.json")
    assert token.encode() not in journal


def test_a_model_whose_files_were_changed_is_neither_served_nor_read(server: servers.Server, tmp_path: pathlib.Path) -> None:
    registration = server.post("/codesets?project=demo&name=diabetes")
    checkout = servers.Checkout(tmp_path / "code", registration["codeset"]["url"], registration["username"], registration["password"])
    shutil.copytree(str(EXAMPLES / "codesets" / "sklearn-diabetes"), checkout.folder, dirs_exist_ok=True)
    checkout.push("train")
    server.post("/workflows", raw=(EXAMPLES / "workflows" / "mlflow-e2e.yaml").read_bytes())
    server.post("/workflows/assignments?name=mlflow-e2e&codesetProject=demo&codesetName=diabetes")
    run = server.finished_run("mlflow-e2e-1")
    assert (run["state"], run["cause"]) == ("succeeded", None)

    def digest() -> Any:
        (model,) = server.get("/artifacts?project=demo&kind=model")
        return model["metadata"].get("digest")

    app = "demo-diabetes-mlflow-e2e"
    application = server.get(f"/applications/{app}")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", application["digest"])
    assert wait_until(digest, "the digest of the model to be noted") == application["digest"]
    assert application["environment"] == {}
    (model,) = server.get("/artifacts?project=demo&kind=model")
    server.post("/workflows", READER)
    server.post("/runs", {"workflow": "reader", "project": "demo", "inputs": {"model": model["address"]}})
    read = server.finished_run("reader-1")
    assert read["state"] == "succeeded", read["cause"]
    assert read["outputs"]["text"] == "flavors:"

    (manifest,) = (server.home / "mlflow" / "artifacts").rglob("MLmodel")
    manifest.write_text(manifest.read_text() + "# changed\n")
    again = {key: value for key, value in application.items() if key not in servers.OBSERVED}
    server.post("/applications", {**again, "description": "again"})

    server.call("GET", f"/apps/{app}/v2/health/ready")
    wait_until(lambda: server.get(f"/apps/{app}")["failed"], "the changed model to be refused")

    assert "were changed: their digest is sha256:" in server.get(f"/apps/{app}")["failed"]
    refused = server.call("POST", "/applications", {**again, "digest": "sha256:" + "0" * 64})
    assert (refused.status, b"was recorded as model://demo/" in refused.body) == (409, True)
    server.post("/runs", {"workflow": "reader", "project": "demo", "inputs": {"model": model["address"]}})
    refused_step = server.finished_run("reader-2")
    assert (refused_step["state"], f"{model['address']} is damaged in the store" in refused_step["cause"]) == ("failed", True)


def test_records_and_applications_follow_the_server_to_another_address(server: servers.Server) -> None:
    before = server.url
    server.stop()
    server.port = 0
    server.start()
    server.tracking_ready()
    assert server.url != before
    record = server.get("/extensions/mlflow")
    urls = {endpoint["url"] for service in record["services"] for endpoint in service["endpoints"]}
    assert urls == {f"{server.url}/mlflow", f"{server.url}/mlflow/api/2.0/mlflow-artifacts"}
    assert before not in json.dumps(record)
    assert server.get("/applications/demo-diabetes-mlflow-e2e")["tracking_uri"] == f"{server.url}/mlflow"
