"""Provenance over HTTP, verified by securesystemslib: bound to the contents, signed, without a secret; on SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from fuseml.domain import errors, plans
from fuseml.domain.registry import selector
from fuseml.runtime import attestation, auth, secrets, settings
from fuseml.store import artifacts, codesets, database, lineage, runs
from tests import event_keys, signing_keys
from tests.component.registered import DIGEST, NOON, Registered, path

MODEL, RAW, IMAGE = "model://demo/wine/1", "dataset://demo/raw/7", "image://demo/env/1"
COMMIT = "a" * 40


class Attesting(Registered):
    """`artifacts` with a key, and a run that has made a model and an image of code and data, with a secret among its variables."""

    def __init__(self, store: database.Database, key: str | None = None) -> None:
        super().__init__(store)
        self.attestor = attestation.connect(settings.Settings(provenance_key=signing_keys.pem() if key is None else key))
        tokens = auth.Tokens({auth.digest_of("ada"): auth.Caller("ada", "admin")})
        deps = artifacts_deps.Deps(
            store=store,
            publisher=self,
            signer=event_keys.SIGNER,
            tokens=tokens,
            keyring=secrets.Keyring([secrets.new_key()]),
            attestor=self.attestor,
            public_url="http://fuseml.example/",
        )
        self.client = artifacts_app.create_app(deps).test_client()
        with store.write() as session:
            codesets.add_codeset(
                session,
                codesets.Codeset(project="demo", name="wine", url="http://ada:canary@git/demo/wine", webhook_secret="x", created=NOON),
            )
            row = runs.get(session, "train-1")
            row.codeset, row.commit, row.ref, row.started, row.finished = "wine", COMMIT, "refs/heads/main", NOON, NOON
            row.plan = _plan().model_dump(mode="json")
            for address, digest in ((MODEL, DIGEST), (RAW, "sha256:" + "7" * 64), (IMAGE, "sha256:" + "8" * 64)):
                kind, name, version = address.split("://")[0], address.split("/")[3], address.split("/")[4]
                made = artifacts.Artifact(
                    address=address, kind=kind, project="demo", name=name, version=version, digest=digest, created=NOON
                )
                if address != RAW:
                    made.run, made.step = "train-1", "fit"
                artifacts.record(session, made)
            lineage.link(session, RAW, MODEL, "train-1", "fit")

    def provenance(self, address: str, status: int = 200) -> Any:
        return self.call("GET", path(address, "provenance"), status=status)

    def key(self) -> SSlibKey:
        """The public key as the server gives it."""
        text = self.answer("GET", "/artifacts/public-key").data
        return SSlibKey.from_crypto(serialization.load_pem_public_key(text))


def _plan() -> plans.Plan:
    checkout = plans.Checkout(
        name="code",
        project="demo",
        codeset="wine",
        url="http://ada:canary@git/demo/wine",
        ref="refs/heads/main",
        commit=COMMIT,
        path="/code",
    )
    secret = plans.SecretPart(extension="minio", service="store", credentials="default", key="AWS_SECRET_ACCESS_KEY")
    variables = (
        plans.Variable(name="AWS_SECRET_ACCESS_KEY", value=(secret,)),
        plans.Variable(name="data", value=plans.text(RAW)),
    )
    fit = plans.StepPlan(
        name="fit",
        image=plans.text(f"registry.example/trainer@sha256:{'5' * 64}"),
        variables=variables,
        checkouts=(checkout,),
    )
    score = plans.StepPlan(name="score", image=plans.text("registry.example/scorer:1"))
    binding = selector.Binding(
        name="store",
        extension_id="minio",
        service_id="store",
        service_resource="s3",
        service_category="",
        product="minio",
        version="1",
        zone="",
        url="http://ada:canary@s3",
        endpoint_type="internal",
        secret_keys=["AWS_SECRET_ACCESS_KEY"],
    )
    return plans.Plan(
        id="of demo",
        run="train-1",
        project="demo",
        workflow="train",
        revision=1,
        inputs={"alpha": "0.5"},
        steps=(fit, score),
        bindings=(plans.StepBinding(step="fit", binding=binding),),
    )


@pytest.fixture
def api(store: database.Database) -> Attesting:
    return Attesting(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Attesting:
    return Attesting(sqlite_store)


@pytest.mark.parametrize(("address", "digest"), [(MODEL, DIGEST), (IMAGE, "sha256:" + "8" * 64)])
def test_the_provenance_of_a_model_and_of_an_image_is_verified_by_another_verifier(api: Attesting, address: str, digest: str) -> None:
    document = api.provenance(address)
    envelope = dsse.Envelope.from_dict(copy.deepcopy(document))
    key = api.key()
    # The key id is our own, and not that of securesystemslib: only the signature counts.
    envelope.verify([SSlibKey(document["signatures"][0]["keyid"], key.keytype, key.scheme, key.keyval)], 1)
    assert envelope.payload_type == "application/vnd.in-toto+json"
    statement = json.loads(envelope.payload)
    assert (statement["_type"], statement["predicateType"]) == ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
    assert statement["subject"] == [{"name": address, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    build, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert build["externalParameters"] == {
        "workflow": "train",
        "revision": 1,
        "project": "demo",
        "inputs": {"alpha": "0.5"},
        "codeset": {"name": "wine", "ref": "refs/heads/main", "commit": COMMIT},
    }
    assert build["resolvedDependencies"] == [
        {"name": f"code://demo/wine/{COMMIT}", "uri": "git+http://git/demo/wine@refs/heads/main", "digest": {"gitCommit": COMMIT}},
        {"name": RAW, "uri": RAW, "digest": {"sha256": "7" * 64}},
        {"name": "image of fit", "uri": f"registry.example/trainer@sha256:{'5' * 64}", "digest": {"sha256": "5" * 64}},
        {"name": "image of score", "uri": "registry.example/scorer:1"},
    ]
    assert details["builder"]["id"] == "http://fuseml.example"
    assert details["metadata"] == {"invocationId": "http://fuseml.example/runs/train-1", "startedOn": NOON, "finishedOn": NOON}
    assert "canary" not in envelope.payload.decode()


def test_another_payload_or_key_is_not_verified(small: Attesting) -> None:
    document, key = small.provenance(MODEL), small.key()
    named = SSlibKey(document["signatures"][0]["keyid"], key.keytype, key.scheme, key.keyval)
    forged = copy.deepcopy(document)
    forged["payload"] = base64.b64encode(base64.b64decode(document["payload"]).replace(b"0.5", b"0.6")).decode()
    retyped = {**copy.deepcopy(document), "payloadType": "application/json"}
    for wrong in (forged, retyped):
        with pytest.raises(VerificationError):
            dsse.Envelope.from_dict(wrong).verify([named], 1)
    other = SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key())
    with pytest.raises(VerificationError):
        dsse.Envelope.from_dict(copy.deepcopy(document)).verify([SSlibKey(named.keyid, other.keytype, other.scheme, other.keyval)], 1)


def test_the_same_artifact_has_the_same_provenance(small: Attesting) -> None:
    assert small.provenance(MODEL) == small.provenance(MODEL)


def test_no_provenance_without_a_digest_a_run_or_a_key(small: Attesting, sqlite_store: database.Database) -> None:
    small.register("model://demo/bare/1", run="train-1", step="fit")
    assert "no digest" in small.provenance("model://demo/bare/1", 409)["message"]
    assert "no run" in small.provenance(RAW, 409)["message"]
    assert small.provenance("model://demo/none/1", 404)["name"] == "not_found"
    assert small.answer("GET", path(MODEL, "provenance"), token="wrong").status_code == 401
    keyless = Registered(sqlite_store, new=False)
    message = keyless.call("GET", path(MODEL, "provenance"), status=409)["message"]
    assert "FUSEML_PROVENANCE_KEY" in message
    keyless.call("GET", "/artifacts/public-key", status=409)


@pytest.mark.parametrize("key", ["canary", signing_keys.pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))])
def test_another_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(errors.PermanentError, match="Ed25519 private key in PEM") as caught:
        attestation.connect(settings.Settings(provenance_key=key))
    assert caught.value.__cause__ is None
    assert "canary" not in caught.value.message and "PRIVATE" not in caught.value.message


def test_a_derived_key_follows_from_its_seed() -> None:
    keys = [attestation.Attestor.derived(seed).public_key for seed in ("one", "one", "two")]
    assert keys[0] == keys[1] != keys[2]
