"""Events and webhooks without a valid origin: unsigned, signed with another key, changed, repeated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fuseml.domain import events
from fuseml.embedded import triggers
from fuseml.runtime import catalog, clock
from tests import documents
from tests.attack.target import Attack, Target, check
from tests.component import ingress
from tests.event_keys import FORGER, encode
from tests.waiting import wait_until

_TEKTON = "dev.tekton.event.pipelinerun.successful.v1"


def _addresses() -> Iterator[str]:
    """Where brokers deliver to functions, where a broker takes events, and where each might be joined to the API."""
    yield from ("/", catalog.EVENTS, catalog.DEAD_LETTERS, "/broker", "/default", "/fuseml/default", "/broker-ingress/fuseml/default")
    for function in catalog.FUNCTIONS:
        yield from (f"/{function.name}{catalog.EVENTS}", f"/{function.service}", f"/{function.service}/")
        yield from (f"{path}{suffix}" for path in function.paths for suffix in (catalog.EVENTS, catalog.DEAD_LETTERS, ""))


def _samples(id: str) -> Iterator[events.Event]:
    """An event of each type, FuseML's and others', with the data of the catalog."""
    for entry in yaml.safe_load((triggers.contract_folder() / "catalog.yaml").read_text())["events"]:
        yield events.Event(entry["type"], entry["sample"]["source"], id, entry.get("subject"), clock.now(), entry["sample"]["data"])
    yield events.Event(_TEKTON, "/tekton", id, None, clock.now(), {"pipelineRun": {"metadata": {"name": "x"}}})


def _structured(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    attributes: dict[str, Any] = {name.lower()[3:]: value for name, value in headers.items() if name.lower().startswith("ce-")}
    return {"Content-Type": "application/cloudevents+json"}, json.dumps({**attributes, "data": json.loads(body)}).encode()


def _forged_events(target: Target) -> None:
    id = target.name("forged")
    for event, address in target.some("forged", itertools.product(_samples(id), _addresses())):
        signed, body = encode(event, FORGER)
        unsigned = {name: value for name, value in signed.items() if "signature" not in name.lower()}
        for headers in (signed, unsigned):
            for sent in ((headers, body), _structured(headers, body)):
                for token in ({}, target.bearer()):
                    status, response = target.raw("POST", address, {**sent[0], **token}, sent[1])
                    check(not 200 <= status < 300, f"POST {address} took {event.type}: {status} {response[-200:]!r}")
    check(id not in target.events(), "a forged event is in the ledger")


def _forged_webhooks(target: Target) -> None:
    _, project, codeset = target.codeset(documents.one_step("{name}", code=documents.COMMIT))
    others = target.post("/codesets/{}/{}/webhook".format(*target.codeset()[1:]))["secret"]
    own = target.post(f"/codesets/{project}/{codeset}/webhook")["secret"]
    push = ingress.first_push(own, project, codeset, "a" * 40)
    headers, body = push.without(*ingress.SIGNATURES["gitea"]).headers, push.body
    signature, stranger, nothing = (
        ingress.first_push(secret, project, codeset, "a" * 40).headers["X-Gitea-Signature"] for secret in (own, others, "")
    )
    forged = {
        "unsigned": {},
        "an empty signature": {"X-Gitea-Signature": ""},
        "another codeset's secret": {"X-Gitea-Signature": stranger},
        "no secret": {"X-Gitea-Signature": nothing},
        "half a signature": {"X-Gitea-Signature": signature[:32]},
        "a wrong one beside": {"X-Gitea-Signature": signature, "X-Hub-Signature-256": "sha256=" + stranger},
        "SHA-1": {"X-Hub-Signature": "sha1=" + signature[:40]},
    }
    for name, more in forged.items():
        status, response = target.raw("POST", "/webhooks/gitea", {**headers, **more}, body)
        check(400 <= status < 500, f"a delivery with {name} was answered with {status}: {response[-200:]!r}")
    for position in target.some("flips", range(len(body))):
        changed = bytearray(body)
        changed[position] ^= 1
        status, _ = target.raw("POST", "/webhooks/gitea", {**headers, "X-Gitea-Signature": signature}, bytes(changed))
        check(400 <= status < 500, f"a delivery with a changed byte {position} was answered with {status}")
    check(target.get(f"/artifacts?project={project}") == [], "a forged push was recorded")


def _repeated_deliveries(target: Target) -> None:
    checkout, project, codeset = target.codeset(documents.one_step("{name}", code=documents.COMMIT))
    secret = target.post(f"/codesets/{project}/{codeset}/webhook")["secret"]
    # The git host has the commit: the sweep would undo the move of a ref that it does not find there.
    commit = checkout.push("a push")
    # A delivery of the host's, with a body of its own, is a push of its own; the others repeat its body.
    for delivery in ("captured", "captured", *(f"renamed-{number}" for number in range(8))):
        push = ingress.first_push(secret, project, codeset, commit, delivery)
        check(target.raw("POST", "/webhooks/gitea", push.headers, push.body)[0] == 202, "an honest delivery is not taken")
    last = checkout.push("the last push")
    wait_until(lambda: last in [run["commit"] for run in target.get(f"/runs?workflow={codeset}")], "the run of the last push")
    target.settled()
    found = [run["commit"] for run in target.get(f"/runs?workflow={codeset}")].count(commit)
    check(found == 2, f"a push and a delivery that came ten times have started {found} runs")


def _tracking_webhooks(target: Target) -> None:
    body = b'{"entity": "model_version", "action": "created", "timestamp": "x", "data": {"name": "m", "version": "1"}}'
    for extension in ("mlflow", "mlflow-local", "x", "store", "..", "fuseml"):
        for signature in ("", "v1,eHg=", "0" * 64):
            headers = {"X-MLflow-Delivery-Id": "1", "X-MLflow-Timestamp": "1", "X-MLflow-Signature": signature}
            status, _ = target.raw("POST", f"/webhooks/mlflow/{extension}", {**headers, "Content-Type": "application/json"}, body)
            check(400 <= status < 500, f"a forged delivery of the tracking server {extension} was answered with {status}")


ATTACKS = (
    Attack("forged events", "no address of broker or function takes an event from outside", _forged_events),
    Attack("forged webhooks", "a delivery without the codeset's signature has no effect", _forged_webhooks),
    Attack("repeated webhooks", "a delivery that was captured starts no second run", _repeated_deliveries),
    Attack("forged webhooks of MLflow", "a delivery without the tracking server's signature has no effect", _tracking_webhooks),
)
