"""`task deploy`, `task undeploy`: what is done, and in which order."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from fuseml.runtime import settings
from infra import deploy
from infra.deploy import cluster, functions, tryout

IMAGE = "ghcr.io/fuseml/functions:0.1.0"
IMAGES = {
    "FUSEML_SERVING_IMAGE": ("--serving-image", "ghcr.io/fuseml/model-server:v1", "image of the model server"),
    "FUSEML_GIT_IMAGE": ("--git-image", settings.Settings().git_image, "image that clones codesets"),
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
"""Secrets that are taken from the environment: command lines are seen by others. A database, git host or S3 server that is missing is
deployed for trying out; the account at an S3 server is for FUSEML_CONTENTS_URL."""
TEKTON = "infra/integrations/tekton"


def check_platform() -> None:
    """Raises DeployError when the cluster cannot be reached, or lacks what FuseML stands on."""
    found = set(
        cluster.kubectl("get", "customresourcedefinitions", "--output", "name")
        .replace("customresourcedefinition.apiextensions.k8s.io/", "")
        .split()
    )
    missing = [product for definition, product in NEEDED.items() if definition not in found]
    if missing:
        raise cluster.DeployError(f"the cluster has no {', no '.join(missing)}; install it first")
    cluster.run("kn", "version")


def up(options: argparse.Namespace) -> None:
    """Deploy everything, or the functions that are named."""
    images = {
        IMAGE: options.image,
        tryout.POSTGRESQL_IMAGE: options.postgresql_image,
        tryout.GITEA_IMAGE: options.gitea_image,
        tryout.S3_IMAGE: options.s3_image,
    }
    services = {
        service["metadata"]["name"]: service for service in cluster.rendered("infra/kubernetes/warm" if options.warm else "knative", images)
    }
    chosen = [name.replace("_", "-") for name in options.functions] or list(services)
    unknown = [name for name in chosen if name not in services]
    if unknown:
        raise cluster.DeployError(f"there is no function {', '.join(unknown)}; there are {', '.join(services)}")
    check_platform()
    if options.functions:
        if cluster.find("configmap", "fuseml") is None:
            raise cluster.DeployError("FuseML is not on this cluster yet; run `task deploy` without names first")
        mark = functions.mark()
        for name in chosen:
            functions.deploy_service(services[name], mark)
        functions.wait_for_services(chosen)
        return

    around = cluster.rendered("infra/kubernetes", images)
    eventing = cluster.rendered("eventing", images)
    cluster.apply(document for document in around if document["kind"] == "Namespace")
    config = next(document for document in around if document["kind"] == "ConfigMap")
    config["data"] |= {variable: vars(options)[variable] for variable in IMAGES}
    before = tryout.without(cluster.data("configmap", "fuseml"), tryout.S3_SETTINGS)
    given = _filled({name: os.environ.get(name, "") for name in GIVEN})
    known = {**{variable: first for variable, (_, first, _) in IMAGES.items()}, **_filled(before)}
    account = tryout.s3_account({**known, **_filled(config["data"])}, given)
    if account:
        known |= tryout.S3_SETTINGS
    token = functions.make_secrets({**given, **account})
    if token is not None:
        # At once: whatever fails later, the token is told.
        sys.stdout.write(f"The administrator's token, shown this once:\n\n    export FUSEML_TOKEN={token}\n\n")

    broker = functions.deploy_broker(next(document for document in eventing if document["kind"] == "Broker"))
    known.setdefault("K_SINK", broker)
    functions.deploy_config(around, known)
    functions.deploy_service(services["gateway"], "")
    known.setdefault("FUSEML_PUBLIC_URL", functions.gateway_url())
    settled = functions.deploy_config(around, known)
    cluster.say("configuration, accounts, network policies")

    tryout.deploy_postgresql(images)
    functions.migrate(images)
    tryout.deploy_gitea(images)
    tryout.deploy_s3(images)

    mark = functions.mark()
    for name, service in services.items():
        functions.deploy_service(service, "" if name == "gateway" else mark)
    functions.wait_for_services(services)

    cluster.apply(document for document in eventing if document["kind"] != "PingSource")
    for document in eventing:
        if document["kind"] == "PingSource":
            functions.deploy_ping_source(document)
    for document in eventing:
        if document["kind"] in ("Broker", "Trigger", "PingSource"):
            name, kind = document["metadata"]["name"], document["kind"].lower()
            cluster.wait(f"{kind} {name}", lambda kind=kind, name=name: cluster.pending(kind, name))  # type: ignore[misc]
    tekton = cluster.rendered(TEKTON, images)
    for document in tekton:
        if "sink" in document["data"]:
            document["data"]["sink"] = broker
    cluster.apply(tekton)
    cluster.say("Tekton's events go to the broker")

    listed = cluster.kn("service", "list")
    sys.stdout.write(f"\n{listed}\nFuseML is ready:\n\n    export FUSEML_SERVER_URL={settled['FUSEML_PUBLIC_URL']}\n")


def _filled(told: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in told.items() if value}


def down(options: argparse.Namespace) -> None:
    """Remove everything, data included."""
    if not options.yes:
        sys.stdout.write(f"This removes the namespaces {cluster.NAMESPACE} and {cluster.WORKLOADS} with all data in them. Really? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise cluster.DeployError("nothing was removed")
    for document in cluster.rendered(TEKTON, {}):
        if cluster.find("configmap", document["metadata"]["name"], document["metadata"]["namespace"]):
            # The fields that nobody else owns go away when their owner names them no more.
            cluster.apply([{key: document[key] for key in ("apiVersion", "kind", "metadata")}])
    cluster.say("Tekton is as it was")
    if cluster.find("namespace", cluster.NAMESPACE):
        # Sources and triggers first, so that nothing is woken any more.
        for kind in ("pingsource", "trigger", "ksvc", "broker"):
            cluster.kubectl("delete", kind, "--all", "--namespace", cluster.NAMESPACE, "--wait=false")
        cluster.say("functions, triggers, broker")
    cluster.kubectl("delete", "namespace", cluster.NAMESPACE, cluster.WORKLOADS, "--ignore-not-found", "--wait=false")

    def gone() -> str | None:
        left = [name for name in (cluster.NAMESPACE, cluster.WORKLOADS) if cluster.find("namespace", name)]
        return f"{', '.join(left)} still ending" if left else None

    cluster.wait("namespaces are gone", gone)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="task", description=(deploy.__doc__ or "").splitlines()[0])
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
    deploying.add_argument(
        "--postgresql-image", default=tryout.POSTGRESQL_IMAGE, help="of the PostgreSQL for trying out (default: %(default)s)"
    )
    deploying.add_argument("--gitea-image", default=tryout.GITEA_IMAGE, help="of the Gitea for trying out (default: %(default)s)")
    deploying.add_argument("--s3-image", default=tryout.S3_IMAGE, help="of the S3 server for trying out (default: %(default)s)")
    deploying.set_defaults(command=up)
    removing = commands.add_parser("undeploy", help="remove everything, data included")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    removing.set_defaults(command=down)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except cluster.DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
