"""The commands `task deploy` and `task undeploy`: their options, and their steps in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from fuseml import deployment
from fuseml.deployment import cluster, functions, images, pod_security, prerequisites, tryout
from fuseml.domain import inert_text
from fuseml.domain.images import mirrored
from fuseml.runtime import clock, settings

IMAGE = settings.Settings().functions_image
MIRROR = "FUSEML_REGISTRY"
OPTIONS = {
    MIRROR: ("--registry", "", "mirror, HOST[:PORT][/PATH], that has all images which no option names"),
    "FUSEML_SERVING_IMAGE": ("--serving-image", "ghcr.io/fuseml/model-server:v1", "image of the model server"),
    "FUSEML_MLSERVER_IMAGE": ("--mlserver-image", "", "image of MLServer, for applications whose model server it is"),
    "FUSEML_GIT_IMAGE": ("--git-image", settings.Settings().git_image, "image that clones codesets"),
    "FUSEML_TRAINER_IMAGE": ("--trainer-image", settings.Settings().trainer_image, "image in which codesets are trained"),
    "FUSEML_BUILD_IMAGE": ("--build-image", settings.Settings().build_image, "image with buildah, for steps that build images"),
    "FUSEML_IMAGE_BUILDS": (
        "--image-builds",
        "",
        "yes: steps may build images in a privileged container, and no pod security is enforced on their namespace",
    ),
    "FUSEML_IMAGE_REPOSITORY": (
        "--image-repository",
        "",
        "repository of the images that the builder makes for codesets with other requirements",
    ),
    "FUSEML_PLAIN_REGISTRIES": ("--plain-registries", "", "registries that the builder reaches by plain HTTP"),
}
"""By setting: the option of `deploy`, the initial value, and its meaning. Without the option the cluster keeps its value."""
IMAGES = {
    IMAGE: "image",
    tryout.POSTGRESQL_IMAGE: "postgresql_image",
    tryout.GITEA_IMAGE: "gitea_image",
    tryout.S3_IMAGE: "s3_image",
}
"""Image in the manifests -> the option that replaces it."""
MLFLOW = "ghcr.io/fuseml/steps:0.1.0"
"""The image of infra/integrations/mlflow."""
SECRETS = (
    "FUSEML_DATABASE_URL",
    "FUSEML_GIT_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "FUSEML_OPENLINEAGE_TOKEN",
    "FUSEML_PROVENANCE_KEY",
)
"""Secrets from the environment, because other users can see command lines. A missing database, git host or S3 server is deployed for trying out;
the account at an S3 server belongs to FUSEML_CONTENTS_URL."""
TEKTON = "infra/integrations/tekton"


def chosen_images(options: argparse.Namespace, stored: Mapping[str, str]) -> images.Images:
    """The images of an installation, by the options and the mirror that the cluster knows."""
    given = {name: vars(options)[field] for name, field in IMAGES.items() if vars(options)[field]}
    return images.Images(given, vars(options)[MIRROR] or stored.get(MIRROR, ""))


def functions_folder(options: argparse.Namespace) -> str:
    """The kustomization of the functions."""
    return "infra/kubernetes/warm" if options.warm else "knative"


def up(options: argparse.Namespace) -> None:
    """Deploy everything, or only `options.functions`."""
    if options.list_images:
        sys.stdout.write(images.table(all_images(), vars(options)[MIRROR]))
        return
    prerequisites.require(prerequisites.check())
    stored = cluster.data("configmap", "fuseml")
    installed = chosen_images(options, stored)
    mirror = installed.mirror
    services = {service["metadata"]["name"]: service for service in cluster.render(functions_folder(options), installed)}
    names = [name.replace("_", "-") for name in options.functions] or list(services)
    unknown = [name for name in names if name not in services]
    if unknown:
        raise cluster.DeployError(f"no function {', '.join(unknown)}; the functions are {', '.join(services)}")
    cluster.remember_events()
    if options.functions:
        if not stored:
            raise cluster.DeployError("FuseML is not deployed on this cluster; run the command without names first")
        if "FUSEML_EVENT_KEYS" not in cluster.data("secret", "fuseml"):
            raise cluster.DeployError("the deployed version does not sign events; upgrade it by the command without names first")
        digest = functions.configuration_digest()
        for name in names:
            functions.deploy_service(services[name], digest)
        functions.wait_for_services(names)
        return

    surroundings = cluster.render("infra/kubernetes", installed)
    eventing = cluster.render("eventing", installed)
    for document in surroundings:
        if document["kind"] == "NetworkPolicy" and "egress" in document["spec"]:
            functions.except_pods(document, functions.pod_networks())
    config = next(document for document in surroundings if document["kind"] == "ConfigMap")
    config["data"] |= {variable: vars(options)[variable] for variable in OPTIONS}
    config["data"]["FUSEML_FUNCTIONS_IMAGE"] = installed.of(IMAGE)
    deployed = tryout.without_trial(stored, tryout.S3_SETTINGS)
    secrets = _nonempty({name: options.environment.get(name, "") for name in SECRETS})
    defaults = initial_settings(mirror) | {name: moved(name, value, mirror) for name, value in _nonempty(deployed).items()}
    pod_security.allow_image_builds(
        surroundings, allowed=(config["data"]["FUSEML_IMAGE_BUILDS"] or defaults["FUSEML_IMAGE_BUILDS"]) == "yes"
    )
    namespaces = pod_security.keep(surroundings, cluster.find("namespace", cluster.WORKLOADS))
    cluster.apply(document for document in surroundings if document["kind"] == "Namespace")
    account = tryout.s3_account({**defaults, **_nonempty(config["data"])}, secrets)
    if account:
        defaults |= tryout.S3_SETTINGS
    until = functions.unsigned_until(cluster.find("ksvc", "dispatcher"), clock.now())
    if until:
        cluster.report(f"the deployed version does not sign events; unsigned ones are accepted until {until}")
        defaults["FUSEML_UNSIGNED_UNTIL"] = until
    functions.create_secrets({**secrets, **account})

    broker = functions.deploy_broker(next(document for document in eventing if document["kind"] == "Broker"))
    defaults.setdefault("K_SINK", broker)
    functions.deploy_config(surroundings, defaults)
    functions.deploy_service(services["gateway"], "")
    defaults.setdefault("FUSEML_PUBLIC_URL", functions.gateway_url())
    configuration = functions.deploy_config(surroundings, defaults)
    cluster.report("configuration, accounts, network policies")

    tryout.deploy_postgresql(installed)
    functions.migrate(installed)
    tryout.deploy_gitea(installed)
    tryout.deploy_s3(installed)

    digest = functions.configuration_digest()
    for name, service in services.items():
        functions.deploy_service(service, "" if name == "gateway" else digest)
    functions.wait_for_services(services)

    cluster.apply(document for document in eventing if document["kind"] != "PingSource")
    for document in eventing:
        if document["kind"] == "PingSource":
            functions.deploy_ping_source(document)
    for document in eventing:
        if document["kind"] in ("Broker", "Trigger", "PingSource"):
            name, kind = document["metadata"]["name"], document["kind"].lower()
            cluster.wait(f"{kind} {name}", lambda kind=kind, name=name: cluster.not_ready(kind, name))  # type: ignore[misc]
    tekton = cluster.render(TEKTON, installed)
    for document in tekton:
        if "sink" in document["data"]:
            document["data"]["sink"] = broker
    cluster.apply(tekton)
    cluster.report("Tekton's events go to the broker")
    pod_security.enforce(namespaces)

    table = cluster.kn("service", "list")
    sys.stdout.write(f"\n{table}\nFuseML is ready:\n\n    export FUSEML_SERVER_URL={configuration['FUSEML_PUBLIC_URL']}\n")


def all_images() -> set[str]:
    """Every image that an installation may pull, by its public name, without those of Knative and Tekton themselves."""
    settled = {initial for variable, (_, initial, _) in OPTIONS.items() if variable.endswith("_IMAGE") and initial}
    return {*IMAGES, *settled, *images.of_workflows(), MLFLOW}


def initial_settings(mirror: str) -> dict[str, str]:
    """The initial values of OPTIONS, with images from the mirror, if any."""
    return {
        name: mirrored(initial, mirror) if name.endswith("_IMAGE") and initial else initial for name, (_, initial, _) in OPTIONS.items()
    }


def moved(name: str, value: str, mirror: str) -> str:
    """The value that the cluster has for a setting; an initial image, which no option had named, moves to the mirror."""
    return initial_settings(mirror)[name] if name in OPTIONS and value == OPTIONS[name][1] else value


def _nonempty(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def down(options: argparse.Namespace) -> None:
    """Remove everything, data included."""
    if not options.yes:
        place = inert_text.visible(f"the cluster {prerequisites.context()}".rstrip())
        names = f"{cluster.NAMESPACE} and {cluster.WORKLOADS}"
        sys.stdout.write(f"This removes the namespaces {names} of {place} with all their data. Continue? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise cluster.DeployError("nothing was removed")
    for document in cluster.render(TEKTON, images.Images()):
        if cluster.find("configmap", document["metadata"]["name"], document["metadata"]["namespace"]):
            # Server-side apply removes the fields that FuseML owned and no longer names.
            cluster.apply([{key: document[key] for key in ("apiVersion", "kind", "metadata")}])
    cluster.report("Tekton's settings are restored")
    if cluster.find("namespace", cluster.NAMESPACE):
        # Sources and triggers first, so that no event starts a function.
        for kind in ("pingsource", "trigger", "ksvc", "broker"):
            cluster.kubectl("delete", kind, "--all", "--namespace", cluster.NAMESPACE, "--wait=false")
        cluster.report("functions, triggers, broker")
    cluster.kubectl("delete", "namespace", cluster.NAMESPACE, cluster.WORKLOADS, "--ignore-not-found", "--wait=false")

    def remaining() -> str | None:
        left = [name for name in (cluster.NAMESPACE, cluster.WORKLOADS) if cluster.find("namespace", name)]
        return f"{', '.join(left)} still terminating" if left else None

    cluster.wait("namespaces removed", remaining)


def parser(deploy: str = "task deploy") -> argparse.ArgumentParser:
    """The commands and their options; `deploy` is the command line that help and refusals show."""
    commands_parser = argparse.ArgumentParser(prog="task", description=(deployment.__doc__ or "").splitlines()[0])
    commands = commands_parser.add_subparsers(required=True, metavar="deploy | undeploy")
    deploy_parser = commands.add_parser(
        "deploy", prog=deploy, help="deploy everything, or the named functions", epilog=f"From the environment: {', '.join(SECRETS)}."
    )
    deploy_parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="deploy only these functions; default: everything")
    deploy_parser.add_argument("--image", default="", metavar="NAME", help=f"image of the functions (default: {IMAGE}, or the mirror's)")
    deploy_parser.add_argument(
        "--list-images", action="store_true", help="only print all images, and with --registry their names in the mirror, to copy them"
    )
    deploy_parser.add_argument("--warm", action="store_true", help="keep one pod of each function on the path of a push")
    for variable, (option, initial, meaning) in OPTIONS.items():
        deploy_parser.add_argument(
            option, dest=variable, metavar="NAME", default="", help=f"{meaning} (default: the present value, initially {initial or 'none'})"
        )
    for image, product in ((tryout.POSTGRESQL_IMAGE, "PostgreSQL"), (tryout.GITEA_IMAGE, "Gitea"), (tryout.S3_IMAGE, "the S3 server")):
        option = f"--{IMAGES[image].replace('_', '-')}"
        deploy_parser.add_argument(
            option, default="", metavar="NAME", help=f"image of {product} for trying out (default: {image}, or the mirror's)"
        )
    deploy_parser.set_defaults(command=up)
    undeploy_parser = commands.add_parser("undeploy", help="remove everything, data included")
    undeploy_parser.add_argument("--yes", action="store_true", help="do not ask")
    undeploy_parser.set_defaults(command=down)
    return commands_parser


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command; secrets come from the environment. Returns the exit code."""
    options = parser().parse_args(arguments, argparse.Namespace(environment=environment))
    try:
        options.command(options)
    except cluster.DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to continue\n")
        return 130
    return 0
