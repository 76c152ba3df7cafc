"""Services for trying out, deployed if no own one is configured: PostgreSQL, Gitea, an S3 server.

Each is a pod with a volume in the namespace of the functions. A Secret of the same name holds its password, generated once; the Secret's
existence marks the service as installed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping

from fuseml.deployment import cluster
from fuseml.deployment.images import Images

POSTGRESQL_IMAGE = "docker.io/library/postgres:17.6"
GITEA_IMAGE = "docker.io/gitea/gitea:1.26.0-rootless"
GITEA_CONFIG = "/var/lib/gitea/custom/conf/app.ini"
GITEA_ADMIN = "keeper"
GITEA_SCOPES = "write:admin,write:organization,write:repository,read:user"
S3_IMAGE = "docker.io/versity/versitygw:v1.7.0"
S3_SETTINGS = {
    "FUSEML_CONTENTS_URL": "s3://fuseml",
    "AWS_ENDPOINT_URL_S3": f"http://s3.{cluster.NAMESPACE}.svc.cluster.local:7070",
    "FUSEML_S3_ADDRESSING": "path",
}
"""The functions' settings for the S3 server. Its manifest creates the bucket."""


def postgresql_url() -> str:
    """The URL of the database to be deployed. Generates its password and stores it in a Secret."""
    password = secrets.token_urlsafe(24)
    cluster.create_secret("postgresql", cluster.NAMESPACE, {"password": password})
    return f"postgresql+psycopg://fuseml:{password}@postgresql.{cluster.NAMESPACE}/fuseml"


def deploy_postgresql(images: Images) -> None:
    """Deploy PostgreSQL if its Secret exists."""
    if cluster.find("secret", "postgresql") is not None:
        _deploy("infra/kubernetes/postgresql", "postgresql", images, "PostgreSQL, for trying out")


def deploy_gitea(images: Images) -> None:
    """Deploy Gitea if the Secret `fuseml` has no token of a git host, and store an administrator's token in it, which only Gitea can
    generate.
    """
    if "FUSEML_GIT_TOKEN" in cluster.data("secret", "fuseml"):
        return
    _deploy("infra/integrations/gitea", "gitea", images, "Gitea, for trying out")
    gitea = ("exec", "gitea-0", f"--namespace={cluster.NAMESPACE}", "--container=gitea", "--", "gitea", "--config", GITEA_CONFIG)
    user = (*gitea, "admin", "user")
    if GITEA_ADMIN not in cluster.kubectl(*user, "list", "--admin"):
        cluster.kubectl(
            *user, "create", "--admin", f"--username={GITEA_ADMIN}", f"--email={GITEA_ADMIN}@fuseml.invalid", "--random-password"
        )
    name = f"--token-name=deployed-{time.time_ns()}"
    output = cluster.kubectl(*user, "generate-access-token", f"--username={GITEA_ADMIN}", name, f"--scopes={GITEA_SCOPES}", "--raw")
    patch = json.dumps({"stringData": {"FUSEML_GIT_TOKEN": output.split()[-1]}})
    cluster.kubectl("patch", "secret", "fuseml", "--namespace", cluster.NAMESPACE, "--patch-file=/dev/stdin", stdin=patch)


def needs_s3(configured: Mapping[str, str], given: Mapping[str, str], *, installed: bool) -> bool:
    """Whether the S3 server for trying out stores the logs, by the `configured` settings and the `given` secrets.

    A configured place or server excludes it. So does a given account, unless the S3 server is `installed` already: then the account is one that
    happens to be in the environment.
    """
    own = configured.get("FUSEML_CONTENTS_URL") or configured.get("AWS_ENDPOINT_URL_S3")
    return not own and (installed or "AWS_ACCESS_KEY_ID" not in given)


def s3_account(configured: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The account at the S3 server by variable, generated once; empty if the server is not needed."""
    account = cluster.data("secret", "s3")
    own = {**without_trial(cluster.data("secret", "fuseml"), account), **given}
    if not needs_s3(configured, own, installed=bool(account)):
        return {}
    if not account:
        account = {"AWS_ACCESS_KEY_ID": "fuseml", "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24), "AWS_SESSION_TOKEN": ""}
        cluster.create_secret("s3", cluster.NAMESPACE, account)
    return account


def without_trial(values: Mapping[str, str], trial: Mapping[str, str]) -> dict[str, str]:
    """The `values` without those of a service for trying out. If any of the `trial` values has been changed, all `values` stay."""
    return {name: value for name, value in values.items() if not (name in trial and trial.items() <= values.items())}


def deploy_s3(images: Images) -> None:
    """Deploy the S3 server if its Secret exists."""
    if cluster.find("secret", "s3") is not None:
        _deploy("infra/integrations/s3", "s3", images, "S3, for trying out")


def _deploy(folder: str, name: str, images: Images, label: str) -> None:
    cluster.apply(cluster.render(folder, images))

    def not_ready() -> str | None:
        cluster.replace_stale_pods(name)
        found = cluster.find("statefulset", name) or {"metadata": {"generation": None}}
        status = found.get("status", {})
        is_observed = status.get("observedGeneration") == found["metadata"]["generation"]
        is_current = status.get("currentRevision") == status.get("updateRevision")
        return None if is_observed and is_current and status.get("readyReplicas") else "its pod is not ready"

    cluster.wait(label, not_ready, name, f"--{name}-image")
