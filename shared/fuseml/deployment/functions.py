"""The parts of every deployment: secrets, configuration, broker, database schema, and the functions."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping

import yaml

from fuseml.deployment import cluster, obstacles, tryout
from fuseml.deployment.images import Images
from fuseml.domain import errors, times
from fuseml.runtime import auth, settings
from fuseml.runtime import secrets as keys

CONFIGURATION = "fuseml.io/configuration"
"""The annotation of a revision with the digest of its configuration."""

GRACE_SECONDS = 1200.0
"""Twice the time of a deployment."""

_DESCRIBE = "kubectl describe ksvc {} --namespace fuseml has the details"
_USUAL_SECONDS = 40.0
"""The time in which functions become ready without a problem; after it, reasons that concern no pod are reported too."""


def create_secrets(given: Mapping[str, str]) -> None:
    """Create or update the Secrets from the `given` values by variable, and generate the missing ones.

    Prints the administrator's token if this call generates it, before its hash is stored: an interruption must not lose it.
    """
    stored = tryout.without_trial(cluster.data("secret", "fuseml"), cluster.data("secret", "s3"))
    contents = dict(given)
    if "FUSEML_DATABASE_URL" not in {**stored, **contents}:
        contents["FUSEML_DATABASE_URL"] = tryout.postgresql_url()
    if "FUSEML_SECRET_KEYS" not in stored:
        contents["FUSEML_SECRET_KEYS"] = keys.new_key()
    if "FUSEML_TOKEN_HASHES" not in stored:
        token = secrets.token_urlsafe(32)
        contents["FUSEML_TOKEN_HASHES"] = f"admin:{auth.digest_of(token)}"
        sys.stdout.write(f"The administrator's token, shown this once:\n\n    export FUSEML_TOKEN={token}\n\n")
        sys.stdout.flush()
    else:
        # Former releases gave one permanent token to all steps.
        contents.setdefault("FUSEML_TOKEN_HASHES", without_shared_token(stored["FUSEML_TOKEN_HASHES"]))
        cluster.kubectl("delete", "secret", "fuseml-workload", "--namespace", cluster.WORKLOADS, "--ignore-not-found")
    contents["FUSEML_EVENT_KEYS"] = event_keys({**stored, **contents}.get("FUSEML_SECRET_KEYS", ""))
    cluster.create_secret("fuseml", cluster.NAMESPACE, {**stored, **contents})


def without_shared_token(hashes: str) -> str:
    """The entries of FUSEML_TOKEN_HASHES without that of the token which all steps shared."""
    return ",".join(entry for entry in hashes.split(",") if entry.strip().split(":")[-2:-1] != ["workload"])


def event_keys(secret_keys: str) -> str:
    """The value of FUSEML_EVENT_KEYS for that of FUSEML_SECRET_KEYS. Raises DeployError."""
    try:
        return ",".join(keys.Keyring(settings.Settings(secret_keys=secret_keys).keys()).event_keys())
    except errors.PermanentError as error:
        raise cluster.DeployError(f"the Secret fuseml: {error.message}") from None


def unsigned_until(deployed: cluster.Object | None, now: str) -> str:
    """The time until which unsigned events are accepted: some minutes if the `deployed` function, of an earlier version, does not sign.

    Else empty. Events of that version are on their way while the new functions start.
    """
    if deployed is None:
        return ""
    (container,) = deployed["spec"]["template"]["spec"]["containers"]
    signs = any(entry["name"] == "FUSEML_EVENT_KEYS" for entry in container.get("env", ()))
    return "" if signs else times.shift(now, GRACE_SECONDS)


def pod_networks() -> list[str]:
    """The networks of pods that Kubernetes knows; a report if it knows none: a network plugin may assign them by itself."""
    try:
        networks, reason = cluster.pod_networks(), "the nodes have no podCIDRs"
    except cluster.DeployError as error:
        networks, reason = [], str(error)
    if not networks:
        cluster.report(f"the networks of pods are not known, so steps may reach the brokers with some network plugins: {reason}")
    return networks


def except_pods(policy: cluster.Object, networks: Iterable[str]) -> None:
    """Take the cluster's pod networks out of the address blocks of an egress policy: network plugins differ in whether a block contains pods."""
    by_version = {version: sorted(text for text in set(networks) if ipaddress.ip_network(text).version == version) for version in (4, 6)}
    for rule in policy["spec"]["egress"]:
        for peer in rule["to"]:
            if "ipBlock" in peer and by_version[ipaddress.ip_network(peer["ipBlock"]["cidr"]).version]:
                peer["ipBlock"]["except"] = by_version[ipaddress.ip_network(peer["ipBlock"]["cidr"]).version]


def deploy_broker(broker: cluster.Object) -> str:
    """Create the broker with kn if it does not exist, and return its address.

    Its dead letter sink is set later, when the function that receives dead letters exists.
    """
    name = broker["metadata"]["name"]
    if cluster.find("broker", name) is None:
        cluster.kn("broker", "create", name)
    url = ""

    def not_ready() -> str | None:
        nonlocal url
        url = (cluster.find("broker", name) or {}).get("status", {}).get("address", {}).get("url", "")
        return None if url else "it has no address"

    cluster.wait(f"broker {name}", not_ready)
    return url


def deploy_ping_source(source: cluster.Object) -> None:
    name, spec = source["metadata"]["name"], source["spec"]
    options = ["--schedule", spec["schedule"], "--data", spec["data"], "--sink", f"broker:{spec['sink']['ref']['name']}"]
    cluster.kn("source", "ping", "update" if cluster.find("pingsource", name) else "create", name, *options)


def deploy_config(documents: list[cluster.Object], defaults: Mapping[str, str]) -> dict[str, str]:
    """Apply the surroundings of the functions. `defaults` fill the variables that the ConfigMap leaves empty. Returns the configuration."""
    config = next(document for document in documents if document["kind"] == "ConfigMap")
    config["data"] = {name: value or defaults.get(name, "") for name, value in config["data"].items()}
    cluster.apply(documents)
    return dict(config["data"])


def gateway_url() -> str:
    """The gateway's address. The cluster assigns it with the service, long before its first pod."""
    url = ""

    def not_ready() -> str | None:
        nonlocal url
        url = (cluster.find("ksvc", "gateway") or {}).get("status", {}).get("url", "")
        return None if url else "it has no address yet"

    cluster.wait("gateway's address", not_ready)
    return url


def configuration_digest() -> str:
    """A digest of the configuration and secrets that a process reads at its start."""
    configuration = json.dumps([cluster.data("configmap", "fuseml"), cluster.data("secret", "fuseml")], sort_keys=True)
    return hashlib.sha256(configuration.encode()).hexdigest()[:16]


def migrate(images: Images) -> None:
    """Run the migration's Job again and wait for its success. Raises DeployError with the end of its log."""
    cluster.kubectl("delete", "job", "migration", "--namespace", cluster.NAMESPACE, "--ignore-not-found")
    cluster.apply(cluster.render("infra/kubernetes/migration", images))

    def not_ready() -> str | None:
        status = (cluster.find("job", "migration") or {}).get("status", {})
        if any(condition["type"] == "Failed" and condition["status"] == "True" for condition in status.get("conditions", [])):
            log = cluster.kubectl("logs", "job/migration", "--namespace", cluster.NAMESPACE, "--all-containers", "--tail=20")
            raise cluster.DeployError(f"the migration failed:\n{log}")
        return None if status.get("succeeded") else "its pod has not succeeded"

    cluster.wait("database schema, registry", not_ready, "migration", "--image")


def deploy_service(service: cluster.Object, digest: str) -> None:
    """Apply the service with kn, from a file of one document (infra/platform-facts.md 3.5). An unchanged service gets no new revision."""
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    annotations[CONFIGURATION] = digest
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(service, file)
        file.flush()
        cluster.kn("service", "apply", service["metadata"]["name"], "--filename", file.name, "--no-wait")


def wait_for_services(names: Iterable[str]) -> None:
    """Wait until all services are ready. Report each of them, and failures of their pods.

    Raises DeployError with the reason for each service that is not ready in time.
    """
    left, started = sorted(names), time.monotonic()
    watches = {name: obstacles.Watch() for name in left}
    while left:
        reasons = {name: cluster.not_ready("ksvc", name) for name in left}
        for name in [name for name, reason in reasons.items() if reason is None]:
            left.remove(name)
            cluster.report(f"function {name}")
        found = cluster.pod_obstacles("--image") if left else {}
        if time.monotonic() - started > _USUAL_SECONDS:
            # Some problems occur before a pod exists.
            found = {name: obstacles.Obstacle(reasons[name] or "", _DESCRIBE.format(name), cluster.READY_SECONDS) for name in left} | found
        for name in left:
            text = watches[name].see(found.get(name))
            if text:
                cluster.report(f"function {name}: {text}")
        is_late = time.monotonic() - cluster.STARTED > cluster.READY_SECONDS
        if left and (is_late or any(watches[name].is_final for name in left)):
            raise cluster.unready(
                f"the functions {', '.join(left)}", "\n".join(str(watches[name].current or reasons[name]) for name in left)
            )
        if left:
            time.sleep(1.0)
