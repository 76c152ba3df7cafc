"""Deploys FuseML to the cluster of the current kubeconfig, and removes it: `task deploy`, `task undeploy`.

What `kn` can say, it says: the services, each from a document of its own, the broker and the ping source. The rest goes by `kubectl apply`.
Everything comes from the manifests of this repository, as `kubectl kustomize` puts them together; only three things are filled in: the
addresses of broker and gateway, which the cluster knows, the images that were asked for, and a mark by which a changed configuration makes new
revisions. Deploying again changes what has changed. Secrets are made once, on this machine, and handed over by standard input.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from fuseml.runtime import auth, settings
from fuseml.runtime import secrets as keys

Object = dict[str, Any]

ROOT = pathlib.Path(__file__).parents[1]
NAMESPACE, WORKLOADS = "fuseml", "fuseml-workloads"
IMAGE = "ghcr.io/fuseml/functions:0.1.0"
POSTGRESQL_IMAGE = "docker.io/library/postgres:17.6"
GITEA_IMAGE = "docker.io/gitea/gitea:1.26.0-rootless"
CONFIGURATION = "fuseml.io/configuration"
IMAGES = {
    "FUSEML_SERVING_IMAGE": ("--serving-image", "ghcr.io/fuseml/model-server:v1", "image of the model server"),
    "FUSEML_TRAINER_IMAGE": ("--trainer-image", settings.Settings().trainer_image, "image in which codesets are trained"),
    "FUSEML_IMAGE_REPOSITORY": ("--image-repository", "", "where the builder puts images for codesets that ask for more"),
    "FUSEML_PLAIN_REGISTRIES": ("--plain-registries", "", "registries that the builder speaks plain HTTP with"),
}
"""By setting: the option of `deploy`, what an installation begins with, and what it is. Without the option the cluster keeps what it has."""
NEEDED = {
    "services.serving.knative.dev": "Knative Serving",
    "brokers.eventing.knative.dev": "Knative Eventing",
    "pipelineruns.tekton.dev": "Tekton Pipelines",
}
GIVEN = ("FUSEML_DATABASE_URL", "FUSEML_GIT_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Secrets that are taken from the environment: command lines are seen by others. A database or git host that is missing is deployed for
trying out; the account at an S3 server is for FUSEML_CONTENTS_URL."""
GITEA_CONFIG = "/var/lib/gitea/custom/conf/app.ini"
GITEA_ADMIN = "keeper"
GITEA_SCOPES = "write:admin,write:organization,write:repository,read:user"
PATIENCE = 600.0
"""Seconds that everything together may take to become ready."""

STARTED = time.monotonic()


class DeployError(Exception):
    """What went wrong and what to do about it, for the person at the terminal."""


def say(text: str) -> None:
    """A line of progress, with the seconds since the beginning."""
    sys.stdout.write(f"{time.monotonic() - STARTED:6.1f} s  {text}\n")
    sys.stdout.flush()


def run(*command: str, given: str | None = None) -> str:
    """What the command prints. Raises DeployError with what it complains about."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DeployError(f"the program {command[0]!r} is needed and is not on the PATH") from None
    if done.returncode:
        raise DeployError(f"{' '.join(command[:6])} ... failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None) -> str:
    return run("kubectl", *arguments, given=given)


def kn(*arguments: str) -> str:
    return run("kn", *arguments, "--namespace", NAMESPACE)


def find(kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
    """The object, if there is one."""
    text = kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    found: Object | None = json.loads(text) if text.strip() else None
    return found


def rendered(folder: str, images: dict[str, str]) -> list[Object]:
    """The objects of a kustomization, with other images where these were asked for."""
    text = kubectl("kustomize", str(ROOT / folder))
    for name, other in images.items():
        text = text.replace(f"image: {name}\n", f"image: {other}\n")
    return [document for document in yaml.safe_load_all(text) if document]


def apply(documents: Iterable[Object]) -> None:
    """Server-side, so that we own only the fields that we name: Tekton's ConfigMap is not ours."""
    text = yaml.safe_dump_all(documents, sort_keys=False)
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=fuseml", "--filename=-", given=text)


def wait(what: str, ready: Callable[[], str | None]) -> None:
    """Until `ready` tells no more reason to wait. Raises DeployError with the last reason."""
    while reason := ready():
        if time.monotonic() - STARTED > PATIENCE:
            raise DeployError(f"{what} did not become ready: {reason}")
        time.sleep(0.5)
    say(what)


def pending(kind: str, name: str) -> str | None:
    """Why the object is not ready; None when it is, in its present generation."""
    found = find(kind, name)
    status = (found or {}).get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    condition = conditions.get("Ready") or {"status": "Unknown", "message": "nothing is known yet"}
    if found and condition["status"] == "True" and status.get("observedGeneration") == found["metadata"]["generation"]:
        return None
    return f"{condition.get('reason', '')} {condition.get('message', '')}".strip() or "not ready yet"


def check_platform() -> None:
    """Raises DeployError when the cluster cannot be reached, or lacks what FuseML stands on."""
    found = set(
        kubectl("get", "customresourcedefinitions", "--output", "name")
        .replace("customresourcedefinition.apiextensions.k8s.io/", "")
        .split()
    )
    missing = [product for definition, product in NEEDED.items() if definition not in found]
    if missing:
        raise DeployError(f"the cluster has no {', no '.join(missing)}; install it first")
    run("kn", "version")


def make_secrets(given: Mapping[str, str]) -> str | None:
    """The Secrets: what is `given`, by variable, and what was never made. Returns the administrator's token if it was made just now: nothing
    keeps it but its hash.
    """
    known = {name: base64.b64decode(value).decode() for name, value in ((find("secret", "fuseml") or {}).get("data") or {}).items()}
    contents, token = {name: value for name, value in given.items() if value}, None
    if "FUSEML_DATABASE_URL" not in {**known, **contents}:
        password = secrets.token_urlsafe(24)
        create_secret("postgresql", NAMESPACE, {"password": password})
        contents["FUSEML_DATABASE_URL"] = f"postgresql+psycopg://fuseml:{password}@postgresql.{NAMESPACE}/fuseml"
    if "FUSEML_TOKEN_HASHES" not in known:
        contents["FUSEML_SECRET_KEYS"], token = keys.new_key(), secrets.token_urlsafe(32)
        workload = keys.Keyring([contents["FUSEML_SECRET_KEYS"]]).derive("token:workload")
        create_secret("fuseml-workload", WORKLOADS, {"token": workload})
        contents["FUSEML_TOKEN_HASHES"] = f"admin:{auth.digest_of(token)},workload:{auth.digest_of(workload)}"
    create_secret("fuseml", NAMESPACE, {**known, **contents})
    return token


def deploy_gitea(images: dict[str, str]) -> None:
    """The Gitea for trying out, and in the Secret an administrator's token of it, which only Gitea itself can make."""
    apply(rendered("infra/integrations/gitea", images))
    kubectl("rollout", "status", "statefulset/gitea", "--namespace", NAMESPACE, "--timeout=300s")
    gitea = ("exec", "gitea-0", "--namespace", NAMESPACE, "--container=gitea", "--", "gitea", "--config", GITEA_CONFIG, "admin", "user")
    if GITEA_ADMIN not in kubectl(*gitea, "list", "--admin"):
        kubectl(*gitea, "create", "--admin", f"--username={GITEA_ADMIN}", f"--email={GITEA_ADMIN}@fuseml.invalid", "--random-password")
    name = f"--token-name=deployed-{time.time_ns()}"
    told = kubectl(*gitea, "generate-access-token", f"--username={GITEA_ADMIN}", name, f"--scopes={GITEA_SCOPES}", "--raw")
    patch = {"stringData": {"FUSEML_GIT_TOKEN": told.split()[-1]}}
    kubectl("patch", "secret", "fuseml", "--namespace", NAMESPACE, "--patch-file=/dev/stdin", given=json.dumps(patch))
    say("Gitea, for trying out")


def create_secret(name: str, namespace: str, contents: dict[str, str]) -> None:
    """Replaces what an attempt that was broken off has left."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "fuseml"}}
    apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": contents}])


def deploy_broker(broker: Object) -> str:
    """Make the broker by kn, if it is not there, and tell its address. Where its dead letters go is said later: to a function."""
    name = broker["metadata"]["name"]
    if find("broker", name) is None:
        kn("broker", "create", name)

    def addressed() -> str | None:
        return None if (find("broker", name) or {}).get("status", {}).get("address", {}).get("url") else "it has no address"

    wait(f"broker {name}", addressed)
    found = find("broker", name)
    assert found is not None
    return str(found["status"]["address"]["url"])


def deploy_ping_source(source: Object) -> None:
    name, spec = source["metadata"]["name"], source["spec"]
    said = ["--schedule", spec["schedule"], "--data", spec["data"], "--sink", f"broker:{spec['sink']['ref']['name']}"]
    kn("source", "ping", "update" if find("pingsource", name) else "create", name, *said)


def deploy_service(service: Object, configuration: str) -> None:
    """By kn, which reads one document from a file, and says nothing about changes when there are none."""
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    annotations[CONFIGURATION] = configuration
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(service, file)
        file.flush()
        kn("service", "apply", service["metadata"]["name"], "--filename", file.name, "--no-wait")


def wait_for_services(names: Iterable[str]) -> None:
    """Until all are ready, telling of each. Raises DeployError with what the others are waiting for."""
    left = sorted(names)
    while left:
        reasons = {name: pending("ksvc", name) for name in left}
        for name in [name for name, reason in reasons.items() if reason is None]:
            left.remove(name)
            say(f"function {name}")
        if left and time.monotonic() - STARTED > PATIENCE:
            raise DeployError("\n".join(f"function {name} did not become ready: {reasons[name]}" for name in left))
        if left:
            time.sleep(1.0)


def deploy_config(documents: list[Object], known: dict[str, str]) -> Object:
    """Everything that functions need around them. What the file leaves empty is what the cluster has, or what `known` says."""
    config = next(document for document in documents if document["kind"] == "ConfigMap")
    before = (find("configmap", config["metadata"]["name"]) or {}).get("data", {})
    config["data"] = {name: value or before.get(name) or known.get(name, "") for name, value in config["data"].items()}
    apply(documents)
    return config


def gateway_url() -> str:
    """Known as soon as the service is, long before its first pod."""
    url = ""

    def known() -> str | None:
        nonlocal url
        url = (find("ksvc", "gateway") or {}).get("status", {}).get("url", "")
        return None if url else "it has no address yet"

    wait("gateway's address", known)
    return url


def configuration_of(config: Object) -> str:
    """Changes whenever a new start would find another configuration."""
    secret = find("secret", "fuseml")
    told = json.dumps([config["data"], (secret or {}).get("data")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def migrate(images: dict[str, str]) -> None:
    """Run the Job anew."""
    kubectl("delete", "job", "migration", "--namespace", NAMESPACE, "--ignore-not-found")
    apply(rendered("infra/kubernetes/migration", images))

    def done() -> str | None:
        status = (find("job", "migration") or {}).get("status", {})
        if any(condition["type"] == "Failed" and condition["status"] == "True" for condition in status.get("conditions", [])):
            raise DeployError("the migration failed:\n" + kubectl("logs", "job/migration", "--namespace", NAMESPACE, "--tail=20"))
        return None if status.get("succeeded") else "its pod has not succeeded"

    wait("database schema", done)


def up(options: argparse.Namespace) -> None:
    """Deploy everything, or the functions that are named."""
    images = {IMAGE: options.image, POSTGRESQL_IMAGE: options.postgresql_image, GITEA_IMAGE: options.gitea_image}
    services = {
        service["metadata"]["name"]: service for service in rendered("infra/kubernetes/warm" if options.warm else "knative", images)
    }
    chosen = [name.replace("_", "-") for name in options.functions] or list(services)
    unknown = [name for name in chosen if name not in services]
    if unknown:
        raise DeployError(f"there is no function {', '.join(unknown)}; there are {', '.join(services)}")
    check_platform()
    around = rendered("infra/kubernetes", images)
    if options.functions:
        if find("configmap", "fuseml") is None:
            raise DeployError("FuseML is not on this cluster yet; run `task deploy` without names first")
        configuration = configuration_of(find("configmap", "fuseml") or {})
        for name in chosen:
            deploy_service(services[name], configuration)
        wait_for_services(chosen)
        return

    apply(document for document in around if document["kind"] == "Namespace")
    token = make_secrets({name: os.environ.get(name, "") for name in GIVEN})
    if token is not None:
        # At once: whatever fails later, the token is told.
        sys.stdout.write(f"The administrator's token, shown this once:\n\n    export FUSEML_TOKEN={token}\n\n")
    eventing = rendered("eventing", images)
    config = next(document for document in around if document["kind"] == "ConfigMap")
    config["data"] |= {variable: vars(options)[variable] for variable in IMAGES}
    known = {
        **{variable: first for variable, (_, first, _) in IMAGES.items()},
        "K_SINK": deploy_broker(next(document for document in eventing if document["kind"] == "Broker")),
    }
    deploy_config(around, known)
    deploy_service(services["gateway"], "")
    known["FUSEML_PUBLIC_URL"] = gateway_url()
    config = deploy_config(around, known)
    say("configuration, accounts, network policies")

    if find("secret", "postgresql") is not None:
        apply(rendered("infra/kubernetes/postgresql", images))
        kubectl("rollout", "status", "statefulset/postgresql", "--namespace", NAMESPACE, "--timeout=300s")
        say("PostgreSQL, for trying out")
    migrate(images)
    if "FUSEML_GIT_TOKEN" not in (find("secret", "fuseml") or {})["data"]:
        deploy_gitea(images)

    configuration = configuration_of(config)
    for name, service in services.items():
        deploy_service(service, "" if name == "gateway" else configuration)
    wait_for_services(services)

    apply(document for document in eventing if document["kind"] != "PingSource")
    for document in eventing:
        if document["kind"] == "PingSource":
            deploy_ping_source(document)
    for document in eventing:
        if document["kind"] in ("Broker", "Trigger", "PingSource"):
            name, kind = document["metadata"]["name"], document["kind"].lower()
            wait(f"{kind} {name}", lambda kind=kind, name=name: pending(kind, name))  # type: ignore[misc]
    tekton = rendered("infra/integrations/tekton", images)
    for document in tekton:
        document["data"]["sink"] = known["K_SINK"]
    apply(tekton)
    say("Tekton's events go to the broker")

    sys.stdout.write(f"\n{kn('service', 'list')}\nFuseML is ready:\n\n    export FUSEML_SERVER_URL={config['data']['FUSEML_PUBLIC_URL']}\n")


def down(options: argparse.Namespace) -> None:
    """Remove everything, data included."""
    if not options.yes:
        sys.stdout.write(f"This removes the namespaces {NAMESPACE} and {WORKLOADS} with all data in them. Really? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DeployError("nothing was removed")
    if find("configmap", "config-events", "tekton-pipelines"):
        # The fields that nobody else owns go away when their owner names them no more.
        kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=fuseml", "--filename=-",
            given=yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config-events", "namespace": "tekton-pipelines"}}),
        )  # fmt: skip
    say("Tekton's events go nowhere")
    if find("namespace", NAMESPACE):
        # Sources and triggers first, so that nothing is woken any more.
        for kind in ("pingsource", "trigger", "ksvc", "broker"):
            kubectl("delete", kind, "--all", "--namespace", NAMESPACE, "--wait=false")
        say("functions, triggers, broker")
    kubectl("delete", "namespace", NAMESPACE, WORKLOADS, "--ignore-not-found", "--wait=false")

    def gone() -> str | None:
        left = [name for name in (NAMESPACE, WORKLOADS) if find("namespace", name)]
        return f"{', '.join(left)} still ending" if left else None

    wait("namespaces are gone", gone)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="task", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="deploy | undeploy")
    deploying = commands.add_parser(
        "deploy", help="deploy everything, or the functions that are named", epilog=f"Taken from the environment: {', '.join(GIVEN)}."
    )
    deploying.add_argument("functions", nargs="*", metavar="FUNCTION", help="only these functions; without names everything")
    deploying.add_argument("--image", default=IMAGE, help="the image of the functions (default: %(default)s)")
    deploying.add_argument("--warm", action="store_true", help="keep a pod of all that a push passes through")
    for variable, (option, first, meaning) in IMAGES.items():
        deploying.add_argument(
            option, dest=variable, metavar="NAME", default="", help=f"{meaning} (default: what it has, else {first or 'none'})"
        )
    deploying.add_argument("--postgresql-image", default=POSTGRESQL_IMAGE, help="of the PostgreSQL for trying out (default: %(default)s)")
    deploying.add_argument("--gitea-image", default=GITEA_IMAGE, help="of the Gitea for trying out (default: %(default)s)")
    deploying.set_defaults(command=up)
    removing = commands.add_parser("undeploy", help="remove everything, data included")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    removing.set_defaults(command=down)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
