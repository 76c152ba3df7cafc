"""Canary secrets: a real run uses them in every supported way; the tests search every output for them."""

from __future__ import annotations

import base64
import json
import pathlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fuseml.engines import masking
from tests import commands
from tests.embedded import servers
from tests.waiting import wait_until

# Characters that spellings escape, and that look like escapes.
CANARIES = {"everybody": "canary-global-5Kq8zR/+%41&\"'<\\d", "project": "canary-project-9xVt2L@:?# é", "user": "canary-user-7Jw4mD"}
MASKS = {name: masking.Mask([canary]) for name, canary in CANARIES.items()}

RECORD = {
    "id": "vault",
    "product": "vault",
    "services": [
        {
            "id": scope,
            "resource": f"vault-{scope}",
            "auth_required": True,
            "endpoints": [{"url": f"http://vault.example.com/{scope}", "configuration": {"VAULT_URL": "http://vault.example.com"}}],
            "credentials": [{"id": scope, "configuration": {f"{scope.upper()}_TOKEN": CANARIES[scope]}, **access}],
        }
        for scope, access in (
            ("everybody", {"scope": "global"}),
            ("project", {"scope": "project", "projects": ["alpha"]}),
            ("user", {"scope": "user", "users": ["ada"]}),
        )
    ],
}

WORKFLOW = """
name: leak
inputs:
  - name: code
    type: codeset
steps:
  - name: use
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}
      - name: token
        value: "Bearer {{{{ extension.g.cfg.EVERYBODY_TOKEN }}}}"
    extensions: &vault
      - {{name: g, service_resource: vault-everybody}}
      - {{name: p, service_resource: vault-project}}
      - {{name: u, service_resource: vault-user}}
    env:
      - name: DATABASE_URL
        value: "postgresql://ada:{{{{ extension.p.cfg.PROJECT_TOKEN }}}}@db/alpha"
    script: |
      env
      echo "$FUSEML_TOKEN and $DATABASE_URL"
      echo "in parts: $USER_TOKEN" | tr ' ' '\\n' >&2
      python3 - <<'END'
      import base64, html, json, os, urllib.parse
      for name in ("EVERYBODY_TOKEN", "PROJECT_TOKEN", "USER_TOKEN"):
          text = os.environ[name]
          document = dict([(name, text)])
          print("spelled", json.dumps(document), repr(document), json.dumps(json.dumps(document)), json.dumps("a\\n" + text + "\\nb"))
          print("spelled", urllib.parse.quote_plus(text), urllib.parse.quote(text, safe="").lower(), urllib.parse.urlencode(document))
          print("spelled", html.escape(text), text.encode().hex(), *(base64.b64encode(b"x" * n + text.encode()).decode() for n in range(3)))
          print("spelled", base64.urlsafe_b64encode(text.encode()).decode(), base64.encodebytes(b"y" * 50 + text.encode()).decode())
      END
      printf %s "$EVERYBODY_TOKEN" | wc -c > "$FUSEML_ENV_RESULTS/length"
      touch {witness}
      while [ ! -e {gate} ]; do sleep 0.05; done
    outputs:
      - name: length
  - name: fail
    image: fuseml.local/shell:1
    needs: [use]
    extensions: *vault
    script: |
      echo "cannot log in with $EVERYBODY_TOKEN, $PROJECT_TOKEN and $USER_TOKEN" >&2
      exit 3
"""


CATALOG = {
    "id": "shelf",
    "services": [
        {
            "id": "templates",
            "resource": "fuseml-catalog",
            "category": "pipeline-catalog",
            "endpoints": [{"url": "http://127.0.0.1:9/shelf.git"}],
            "credentials": [{"id": "account", "default": True, "configuration": {"username": "ada", "password": CANARIES["everybody"]}}],
        }
    ],
}


def canaries_in(data: bytes) -> list[str]:
    """The names of the canaries in the data, in any of their usual spellings."""
    names = []
    for name, canary in CANARIES.items():
        plain = canary.encode()
        # For each of the three alignments, the part that does not depend on the neighbouring bytes.
        encoded = [base64.b64encode(b"\0" * shift + plain)[4 * (shift > 0) : -4] for shift in range(3)]
        if any(part in data for part in (plain, *encoded)) or MASKS[name].found_in(data):
            names.append(name)
    return names


@dataclass
class Leak:
    """A server with a run that used all its secrets and printed them."""

    server: servers.Server
    run: Mapping[str, Any]
    command_lines: set[bytes] = field(default_factory=set)
    while_running: Mapping[str, list[str]] = field(default_factory=dict)
    environments: set[bytes] = field(default_factory=set)


class Watcher:
    """Records the arguments of all processes in the background."""

    def __init__(self) -> None:
        self.command_lines: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.command_lines |= set(of_processes("cmdline"))

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def of_processes(name: str) -> Iterator[bytes]:
    for path in pathlib.Path("/proc").glob(f"[0-9]*/{name}"):
        try:
            yield path.read_bytes()
        except OSError:
            continue  # the process has ended, or belongs to another user


def in_files(folder: pathlib.Path) -> dict[str, list[str]]:
    """The names of the canaries by file."""
    files = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            try:
                hits = canaries_in(path.read_bytes())
            except FileNotFoundError:
                continue  # a temporary file
            if hits:
                files[str(path.relative_to(folder))] = hits
    return files


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leak]:
    folder = tmp_path_factory.mktemp("canary")
    witness, gate = folder / "shared" / "witness", folder / "gate"
    witness.parent.mkdir()
    with servers.running(folder / "home", "--mlflow", "none", "--allow-path", f"{witness.parent}:rw") as server, Watcher() as watcher:
        server.post("/extensions", RECORD)
        server.post("/workflows", raw=WORKFLOW.format(witness=witness, gate=gate).encode())
        registration = server.post("/codesets?project=alpha&name=code")
        server.post("/workflows/assignments?name=leak&codesetProject=alpha&codesetName=code")
        checkout = servers.Checkout(folder / "code", registration["codeset"]["url"], "ada", registration["password"])
        (checkout.folder / "train.py").write_text("print('hello')\n")
        checkout.push("leak")
        wait_until(witness.exists, "the step to use its secrets")
        leak = Leak(server, {}, while_running=in_files(server.home))
        leak.environments = {name for environ in of_processes("environ") for name in environ.split(b"\0") if canaries_in(name)}
        gate.touch()
        leak.run = server.finished_run("leak-1")
        leak.command_lines = watcher.command_lines
        yield leak


def test_the_step_received_its_secrets_and_the_run_has_a_redacted_cause(leak: Leak) -> None:
    assert (leak.run["state"], [step["state"] for step in leak.run["steps"]]) == ("failed", ["succeeded", "failed"])
    assert leak.run["steps"][0]["outputs"] == {"length": str(len(CANARIES["everybody"]))}
    assert {binding["credentials_id"] for binding in leak.run["bindings"]} == set(CANARIES)
    assert leak.run["steps"][1]["cause"] == "exited with code 3: cannot log in with <hidden>, <hidden> and <hidden>"
    # Only the environment of the step's processes may contain them.
    assert {entry.split(b"=", 1)[0] for entry in leak.environments} == {
        b"EVERYBODY_TOKEN",
        b"PROJECT_TOKEN",
        b"USER_TOKEN",
        b"FUSEML_TOKEN",
        b"DATABASE_URL",
    }


def test_no_response_of_the_api_contains_a_secret(leak: Leak) -> None:
    server = leak.server
    commit = leak.run["commit"]
    parameters = {
        "/extensions": {"id": "vault", "extension_id": "vault", "service_id": "user"},
        "/projects": {"name": "alpha"},
        "/codesets": {"project": "alpha", "name": "code"},
        "/workflows": {"name": "leak"},
        "/runs": {"name": "leak-1", "other": "leak-1", "step": "fail"},
        "/runnables": {"id": "builder"},
        "/catalogs": {"name": "shelf"},
        "/sources": {"name": "config"},
        "/events": {"id": "none"},
        **{path: {"project": "alpha", "kind": "model"} for path in ("/artifacts/retention", "/artifacts/mirrors")},
        **{path: {"kind": "code", "project": "alpha", "name": "code", "version": commit} for path in ("/artifacts", "/lineage")},
    }
    assert server.call("PUT", f"/artifacts/code/alpha/code/{commit}/tags/best").status == 200
    server.call("PUT", "/artifacts/retention/alpha/model", {"newest": 5})
    server.call("PUT", "/artifacts/mirrors/alpha/model", {"store": {"service_resource": "s3"}})
    server.post("/extensions", CATALOG)
    server.post("/sources", {"name": "config", "codeset": "alpha/code", "path": "fuseml"})
    statuses: dict[str, int] = {}
    for template, operations in server.get("/openapi.json")["paths"].items():
        if "get" not in operations:
            continue
        setting = next((path for path in ("/artifacts/retention", "/artifacts/mirrors") if template.startswith(path)), "")
        values = parameters.get(setting or f"/{template.split('/')[1]}", {"name": "none"})
        address = "http:%252F%252Fvault.example.com%252Fuser" if "endpoints" in template else "user"
        tagged = {"name": "code@best"} if template == "/artifacts/{kind}/{project}/{name}" else {}
        path = template.format_map({**values, "address": address, **tagged})
        query = {
            "/lineage": f"?address=code://alpha/code/{commit}",
            "/workflows/{name}/diff": "?from=1&to=1",
            "/why": f"?of={commit}",
            "/pipelines/results": "?project=alpha",
            "/runnables/{id}/versions": "?project=alpha",
            "/runnables/{id}/matches": f"?offer=code://alpha/code/{commit}",
        }.get(template, "")
        for kind in ("application/json", "application/x-yaml"):
            response = server.call("GET", path + query, headers={"Accept": kind})
            statuses[template] = response.status
            assert canaries_in(response.body + repr(response.headers).encode()) == [], path
    # There is no application, no event of that id, and no version of a built-in runnable; a git host has no pages; no run made the commit. The
    # repository of the catalogue is away.
    missing = {template: status for template, status in statuses.items() if status != 200}
    assert missing == {
        "/applications/{name}": 404,
        "/catalogs/{name}": 503,
        "/events/{id}": 404,
        "/runnables/{id}/versions": 404,
        "/artifacts/{kind}/{project}/{name}/{version}/page": 400,
        "/artifacts/{kind}/{project}/{name}/{version}/provenance": 409,
    }
    assert len(statuses) > 20
    log = server.call("GET", "/runs/leak-1/logs/use").body
    assert b"DATABASE_URL=postgresql://ada:<hidden>@db/alpha" in log


def test_no_response_to_a_change_contains_a_secret(leak: Leak) -> None:
    server = leak.server
    credentials = RECORD["services"][2]["credentials"][0]  # type: ignore[index]
    path_of_credentials = "/extensions/vault/services/user/credentials"
    requests = [
        ("POST", "/extensions", RECORD, 409),
        ("POST", "/extensions", {"id": "other", "services": [{"credentials": [{**credentials, "scope": CANARIES["user"]}]}]}, 400),
        ("POST", "/extensions", {**RECORD, "id": "a b", "version": [CANARIES["user"]]}, 400),
        ("POST", "/extensions/plan", {**RECORD, "version": "2.0"}, 200),
        ("PUT", "/extensions/vault?dry_run=true", {**RECORD, "services": []}, 200),
        ("PUT", "/extensions/vault", RECORD, 200),
        ("POST", path_of_credentials, credentials, 409),
        ("PUT", f"{path_of_credentials}/user", credentials, 200),
        ("PUT", f"{path_of_credentials}/user", {"configuration": [CANARIES["user"]]}, 400),
        ("DELETE", "/extensions/vault", None, 409),
        ("POST", "/resolve", {"selectors": [{"service_resource": "vault-user"}], "context": {"user": "ada"}, "explain": True}, 200),
        ("POST", "/resolve", {"selectors": [{"service_resource": "vault-user"}], "context": {"user": "eve"}}, 422),
        ("POST", "/workflows/leak/plan", {"project": "alpha", "codeset": "code"}, None),
        ("POST", "/extensions/secrets/rotate", None, 200),
    ]
    for method, path, body, status in requests:
        response = server.call(method, path, body)
        assert canaries_in(response.body) == [], (method, path)
        assert status in (None, response.status), (method, path, response)
    broken = server.call(
        "POST", "/extensions", raw=f'{{"id": "x", "version": "{CANARIES["user"]}" "'.encode(), headers={"Content-Type": "application/json"}
    )
    assert broken.status == 400 and canaries_in(broken.body) == []


def test_no_file_of_the_server_contains_a_secret(leak: Leak) -> None:
    assert leak.while_running == {}
    assert in_files(leak.server.home) == {}
    assert canaries_in(leak.server.output.read_bytes()) == []
    assert canaries_in(leak.server.call("GET", "/metrics").body) == []
    assert b'"type": "org.fuseml.run.step_finished.v1"' in (leak.server.home / "logs" / "server.log").read_bytes(), (
        "the log contains the run"
    )
    assert any(path.name == "fuseml.db" for path in leak.server.home.iterdir()), "the database exists"


def test_no_process_had_a_secret_in_its_arguments(leak: Leak) -> None:
    assert any(b"fuseml.cli.main" in line for line in leak.command_lines)
    assert [line for line in list(leak.command_lines) if canaries_in(line)] == []


def test_no_output_of_the_command_contains_a_secret(leak: Leak, tmp_path: pathlib.Path) -> None:
    record, broken = tmp_path / "vault.json", tmp_path / "broken.yaml"
    record.write_text(json.dumps(RECORD))
    broken.write_text(json.dumps({**RECORD, "id": "new"}).replace('"scope": "user"', f'"scope": "{CANARIES["user"]}"'))
    for code, *arguments in (
        (0, "extension", "get", "vault"),
        (0, "extension", "get", "vault", "-o", "yaml"),
        (0, "extension", "update", "vault", "-f", str(record)),
        (1, "extension", "register", "-f", str(record)),
        (1, "extension", "register", "-f", str(broken)),
        (0, "run", "get", "leak-1"),
        (0, "run", "logs", "leak-1"),
        (0, "resolve", "-r", "vault-user", "--user", "ada", "--explain"),
        (1, "resolve", "-r", "vault-user", "--user", "eve"),
        (0, "secrets", "rotate"),
    ):
        environment = {**leak.server.environment, "FUSEML_DEBUG": "1"}
        process = commands.fuseml(*arguments, environment=environment, code=None)
        assert canaries_in((process.stdout + process.stderr).encode()) == [], arguments
        assert process.returncode == code, commands.describe(process)
