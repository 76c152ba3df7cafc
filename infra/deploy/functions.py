"""What every deployment has: secrets, configuration, broker, schema, and the functions themselves."""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping

import yaml

from fuseml.runtime import auth
from fuseml.runtime import secrets as keys
from infra.deploy import cluster, tryout

CONFIGURATION = "fuseml.io/configuration"

_USUAL = 40.0
"""Seconds in which functions come up where nothing is wrong."""


def make_secrets(given: Mapping[str, str]) -> str | None:
    """The Secrets: what is `given`, by variable, and what was never made. Returns the administrator's token if it was made just now: nothing
    keeps it but its hash.
    """
    known = tryout.without(cluster.data("secret", "fuseml"), cluster.data("secret", "s3"))
    contents, token = dict(given), None
    if "FUSEML_DATABASE_URL" not in {**known, **contents}:
        contents["FUSEML_DATABASE_URL"] = tryout.postgresql_url()
    if "FUSEML_TOKEN_HASHES" not in known:
        contents["FUSEML_SECRET_KEYS"], token = keys.new_key(), secrets.token_urlsafe(32)
        workload = keys.Keyring([contents["FUSEML_SECRET_KEYS"]]).derive("token:workload")
        cluster.create_secret("fuseml-workload", cluster.WORKLOADS, {"token": workload})
        contents["FUSEML_TOKEN_HASHES"] = f"admin:{auth.digest_of(token)},workload:{auth.digest_of(workload)}"
    cluster.create_secret("fuseml", cluster.NAMESPACE, {**known, **contents})
    return token


def deploy_broker(broker: cluster.Object) -> str:
    """Make the broker by kn, if it is not there, and tell its address. Where its dead letters go is said later: to a function."""
    name = broker["metadata"]["name"]
    if cluster.find("broker", name) is None:
        cluster.kn("broker", "create", name)

    def addressed() -> str | None:
        return None if (cluster.find("broker", name) or {}).get("status", {}).get("address", {}).get("url") else "it has no address"

    cluster.wait(f"broker {name}", addressed)
    found = cluster.find("broker", name)
    assert found is not None
    return str(found["status"]["address"]["url"])


def deploy_ping_source(source: cluster.Object) -> None:
    name, spec = source["metadata"]["name"], source["spec"]
    said = ["--schedule", spec["schedule"], "--data", spec["data"], "--sink", f"broker:{spec['sink']['ref']['name']}"]
    cluster.kn("source", "ping", "update" if cluster.find("pingsource", name) else "create", name, *said)


def deploy_config(documents: list[cluster.Object], known: Mapping[str, str]) -> dict[str, str]:
    """Everything that functions need around them. What the file leaves empty is what is `known`. Returns the configuration."""
    config = next(document for document in documents if document["kind"] == "ConfigMap")
    config["data"] = {name: value or known.get(name, "") for name, value in config["data"].items()}
    cluster.apply(documents)
    return dict(config["data"])


def gateway_url() -> str:
    """Known as soon as the service is, long before its first pod."""
    url = ""

    def known() -> str | None:
        nonlocal url
        url = (cluster.find("ksvc", "gateway") or {}).get("status", {}).get("url", "")
        return None if url else "it has no address yet"

    cluster.wait("gateway's address", known)
    return url


def mark() -> str:
    """Changes whenever a new start would find another configuration."""
    told = json.dumps([cluster.data("configmap", "fuseml"), cluster.data("secret", "fuseml")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def migrate(images: Mapping[str, str]) -> None:
    """Run the Job anew."""
    cluster.kubectl("delete", "job", "migration", "--namespace", cluster.NAMESPACE, "--ignore-not-found")
    cluster.apply(cluster.rendered("infra/kubernetes/migration", images))

    def done() -> str | None:
        status = (cluster.find("job", "migration") or {}).get("status", {})
        if any(condition["type"] == "Failed" and condition["status"] == "True" for condition in status.get("conditions", [])):
            told = cluster.kubectl("logs", "job/migration", "--namespace", cluster.NAMESPACE, "--tail=20")
            raise cluster.DeployError(f"the migration failed:\n{told}")
        return None if status.get("succeeded") else "its pod has not succeeded"

    cluster.wait("database schema", done)


def deploy_service(service: cluster.Object, mark: str) -> None:
    """By kn, which reads one document from a file (infra/platform-facts.md 3.5), and says nothing about changes when there are none."""
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    annotations[CONFIGURATION] = mark
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(service, file)
        file.flush()
        cluster.kn("service", "apply", service["metadata"]["name"], "--filename", file.name, "--no-wait")


def wait_for_services(names: Iterable[str]) -> None:
    """Until all are ready, telling of each, and of what keeps one from running. Raises DeployError with what the others are waiting for."""
    left, told, begun = sorted(names), dict[str, str](), time.monotonic()
    while left:
        reasons = {name: cluster.pending("ksvc", name) for name in left}
        for name in [name for name, reason in reasons.items() if reason is None]:
            left.remove(name)
            cluster.say(f"function {name}")
        found = cluster.troubles() if left else {}
        if time.monotonic() - begun > _USUAL:
            # Not all that goes wrong gets as far as a pod.
            found = {name: reasons[name] or "" for name in left} | found
        for name in left:
            if name in found and told.get(name) != found[name]:
                told[name] = found[name]
                cluster.say(f"function {name}: {found[name]}")
        if left and time.monotonic() - cluster.STARTED > cluster.PATIENCE:
            raise cluster.DeployError(
                "\n".join(f"function {name} did not become ready: {told.get(name) or reasons[name]}" for name in left)
            )
        if left:
            time.sleep(1.0)
