"""Secrets: sent to a changed host, shown in an answer, kept beyond a run."""

from __future__ import annotations

import codecs
import itertools
import json
import random
import string
import urllib.parse
from typing import Any

import urllib3.util

from tests.attack.target import Attack, Target, check
from tests.component import test_custody as custody
from tests.embedded import servers
from tests.waiting import wait_until

CANARY = "canary-77ab-never-shown"
_HERE = ("https", "mlflow.example.org", 443)
_USERS = [
    "",
    "mlflow.example.org@",
    "a:b@",
    "mlflow.example.org\\@",
    "mlflow.example.org%40",
    "mlflow.example.org#@",
    "mlflow.example.org/@",
]
_HOSTS = ["evil.example.org", "mlflow.example.org", "mlflow.example.org.", "mlflow.example.org.evil.example.org", "mlf\u0142ow.example.org"]
_PORTS = ["", ":443", ":8443", ":0443", ":"]
# The token is masked in the log; this spelling of it is not.
_WORKFLOW = """
name: {name}
inputs: [{name: code, type: codeset}]
steps:
  - name: work
    image: fuseml.local/shell:1
    extensions: [{name: serving, service_category: prediction-serving}]
    script: |
      echo "$FUSEML_API_TOKEN" | tr a-zA-Z n-za-mN-ZA-M
      # The end of a line that may begin a secret appears with the next one.
      echo shown
      sleep 600
"""
_OF_STEPS = {("POST", "/applications"), ("GET", "/applications/x")}


def _registered(target: Target) -> str:
    id = target.name("tracking")
    target.post("/extensions", {**custody.RECORD, "id": id})
    return id


def _send(target: Target, id: str, change: tuple[str, str, Any]) -> int:
    method, path, body = change
    text = json.dumps({**body, "id": id} if body.get("id") == custody.RECORD["id"] else body)
    return target.call(method, path.replace("/extensions/mlflow", f"/extensions/{id}"), json.loads(text)).status


def _changed_records(target: Target) -> None:
    id = _registered(target)
    before = target.get(f"/extensions/{id}")["revision"]
    for name, change in custody.CHANGES.items():
        status = _send(target, id, change)
        # The health in the record changes by itself, the revision does not.
        check(status == 400 and target.get(f"/extensions/{id}")["revision"] == before, f"{name} keeps the secret: {status}")


def _leads_home(url: str) -> bool:
    """Whether every reader takes the URL for the address that the secret was given for."""
    readers = (urllib.parse.urlsplit, urllib3.util.parse_url)
    try:
        found = [(parts.scheme, (parts.hostname or "").rstrip("."), parts.port or 443) for parts in (read(url) for read in readers)]
    except (ValueError, urllib3.exceptions.HTTPError):
        return False
    return set(found) == {_HERE}


def _spelled_hosts(target: Target) -> None:
    id = _registered(target)

    def make(chance: random.Random) -> str:
        return f"{chance.choice(['https', 'HTTPS', 'http'])}://{''.join(map(chance.choice, (_USERS, _HOSTS, _PORTS)))}/api"

    for url in target.generated("hosts", make):
        status = _send(target, id, ("PUT", "/extensions/mlflow", {"services": [{"id": "tracking", "endpoints": [{"url": url}]}]}))
        check(status == 400 or _leads_home(url), f"a secret follows its service to {url!r}: {status}")


def _moved_applications(target: Target) -> None:
    body = {"name": target.name("app"), "type": "x", "workflow": "w", "environment": {"MLFLOW_TRACKING_PASSWORD": CANARY}}
    home = {"tracking_uri": "https://mlflow.example.org"}
    target.post("/applications", {**body, **home})
    hidden = {"MLFLOW_TRACKING_PASSWORD": "<hidden>"}
    kept = {**body, "environment": hidden}
    for moved in (
        {"tracking_uri": "https://evil.example.org"},
        {"tracking_uri": "http://mlflow.example.org"},
        {"tracking_uri": "https://mlflow.example.org@evil.example.org"},
        {**home, "runtime": "evil.example.org/image:1"},
        {**home, "environment": {**hidden, "MLFLOW_TRACKING_URI": "https://evil.example.org"}},
    ):
        answer = target.call("POST", "/applications", {**kept, **moved})
        check(answer.status == 400, f"the secret of an application follows it to {moved}: {answer.status}")


def _shown_secrets(target: Target) -> None:
    id = target.name("vault")
    account = {"id": "a", "configuration": {"PASSWORD": CANARY}}
    service = {"id": "s", "endpoints": [{"url": "http://127.0.0.1:1"}], "credentials": [account]}
    target.post("/extensions", {"id": id, "product": "x", "services": [service]})
    application = {"name": target.name("app"), "type": "x", "workflow": "w", "environment": {"PASSWORD": CANARY}}
    target.post("/applications", application)
    paths = [
        "/extensions",
        f"/extensions/{id}",
        f"/extensions/{id}/services/s/credentials/a",
        "/applications",
        f"/applications/{application['name']}",
    ]
    for path, kind in itertools.product([*paths, "/events?limit=500"], ("application/json", "application/x-yaml")):
        check(CANARY.encode() not in target.call("GET", path, headers={"Accept": kind}).body, f"GET {path} shows a secret")
    wrong: list[Any] = [[CANARY], {"x": CANARY}, CANARY + "\0", CANARY * 100_000]
    for value in wrong:
        for method, path, body in (
            ("PUT", f"/extensions/{id}/services/s/credentials/a", {"configuration": {"PASSWORD": value}}),
            ("POST", "/applications", {**application, "environment": {"PASSWORD": value}, "type": 1}),
            ("PUT", f"/extensions/{id}", {"services": [{**service, "credentials": [{**account, "configuration": value}]}]}),
        ):
            check(CANARY.encode() not in target.call(method, path, body).body, f"{method} {path} repeats a secret that it refuses")


def _token_of_a_step(target: Target, checkout: servers.Checkout, workflow: str) -> tuple[str, str]:
    """The run and the token of its step, which goes on."""
    checkout.push("go")
    run: str = wait_until(lambda: target.get(f"/runs?workflow={workflow}"), "the run of the push")[0]["name"]

    def printed() -> str:
        return target.call("GET", f"/runs/{run}/logs/work").body.decode()

    wait_until(lambda: "\n" in printed(), lambda: f"the step to print its token: {target.get(f'/runs/{run}')}, {printed()!r}")
    return run, codecs.decode(printed().splitlines()[0], "rot13")


def _tokens_of_steps(target: Target) -> None:
    others = {"name": target.name("other"), "type": "x", "workflow": "w", "project": target.name("project")}
    target.post("/applications", others)
    checkout, project, workflow = target.codeset(_WORKFLOW)
    run, token = _token_of_a_step(target, checkout, workflow)
    own = {"name": target.name("own"), "type": "x", "workflow": workflow, "project": project}
    try:
        status = target.call("POST", "/applications", own, token=token).status
        if status != 201:
            raise AssertionError(f"the token of a running step is of no use: {status}; the attack shows nothing")
        for method, path, operation in target.some("operations", target.operations()):
            if (method, path) not in _OF_STEPS and "security" in operation:
                status = target.call(method, path, {} if method != "GET" else None, token=token).status
                check(status in (401, 403), f"a step may {method} {path}: {status}")
        for name, body in (("another project", {**own, "project": others["project"]}), ("another's name", {**own, "name": others["name"]})):
            status = target.call("POST", "/applications", body, token=token).status
            check(status in (401, 403, 409), f"a step registers an application of {name}: {status}")
        check(
            target.call("GET", f"/applications/{others['name']}", token=token).status in (401, 403), "a step reads an application of others"
        )
        for forged in target.generated("tokens", lambda chance: _flipped(chance, token)):
            status = target.call("GET", f"/applications/{own['name']}", token=forged).status
            check(status == 401, f"a changed token is accepted: {status}")
    finally:
        target.post(f"/runs/{run}/cancel")
    target.finished_run(run)
    for method, path, sent in (("POST", "/applications", own), ("GET", f"/applications/{own['name']}", None)):
        status = target.call(method, path, sent, token=token).status
        check(status == 401, f"the token of a step is good after the end of its run: {method} {path} {status}")


def _flipped(chance: random.Random, token: str) -> str:
    position = chance.randrange(len(token))
    other = chance.choice([letter for letter in string.ascii_letters + string.digits if letter != token[position]])
    return token[:position] + other + token[position + 1 :]


ATTACKS = (
    Attack("secrets at changed addresses", "a kept secret goes to no new address, on whatever way the address changes", _changed_records),
    Attack("secrets at misspelled hosts", "a kept secret follows no URL that a client may read differently", _spelled_hosts),
    Attack("secrets of moved applications", "a kept secret of an application goes to no new server", _moved_applications),
    Attack("secrets in answers", "no answer shows a secret, nor a refusal", _shown_secrets),
    Attack("tokens of steps", "a step's token is for its own applications, and ends with its run", _tokens_of_steps),
)
