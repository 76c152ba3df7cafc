"""What is deployed for trying out where nothing of one's own is named: PostgreSQL, Gitea, an S3 server.

Each is a pod with a volume in the namespace of the functions. A Secret of the same name holds its password, made once, and says that it is
there.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping

from infra.deploy import cluster

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
"""Where functions find the S3 server. Its manifest makes the bucket."""


def postgresql_url() -> str:
    """Where the database will be, with a password that is made now."""
    password = secrets.token_urlsafe(24)
    cluster.create_secret("postgresql", cluster.NAMESPACE, {"password": password})
    return f"postgresql+psycopg://fuseml:{password}@postgresql.{cluster.NAMESPACE}/fuseml"


def deploy_postgresql(images: Mapping[str, str]) -> None:
    """If it is what we made a password for."""
    if cluster.find("secret", "postgresql") is not None:
        _deploy("infra/kubernetes/postgresql", "postgresql", images, "PostgreSQL, for trying out")


def deploy_gitea(images: Mapping[str, str]) -> None:
    """If no token of a git host is known; in the Secret an administrator's token of it, which only Gitea itself can make."""
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
    told = cluster.kubectl(*user, "generate-access-token", f"--username={GITEA_ADMIN}", name, f"--scopes={GITEA_SCOPES}", "--raw")
    patch = json.dumps({"stringData": {"FUSEML_GIT_TOKEN": told.split()[-1]}})
    cluster.kubectl("patch", "secret", "fuseml", "--namespace", cluster.NAMESPACE, "--patch-file=/dev/stdin", given=patch)


def wants_s3(configured: Mapping[str, str], given: Mapping[str, str], *, there: bool) -> bool:
    """Whether logs shall stay in the S3 server for trying out, by the settings that somebody has configured and the secrets that somebody gave.

    Whoever names a place or a server has one. So has who gives an account, unless ours is `there` already: then it is one that just happens
    to be in the environment.
    """
    named = configured.get("FUSEML_CONTENTS_URL") or configured.get("AWS_ENDPOINT_URL_S3")
    return not named and (there or "AWS_ACCESS_KEY_ID" not in given)


def s3_account(configured: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The account at the S3 server, made once; empty where it is not wanted."""
    account = cluster.data("secret", "s3")
    of_others = {**without(cluster.data("secret", "fuseml"), account), **given}
    if not wants_s3(configured, of_others, there=bool(account)):
        return {}
    if not account:
        account = {"AWS_ACCESS_KEY_ID": "fuseml", "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24), "AWS_SESSION_TOKEN": ""}
        cluster.create_secret("s3", cluster.NAMESPACE, account)
    return account


def without(told: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """What others have told the cluster: all of it, but for what we have filled in, which is taken back where it is not wanted any more."""
    return {name: value for name, value in told.items() if not (name in ours and ours.items() <= told.items())}


def deploy_s3(images: Mapping[str, str]) -> None:
    """If it has an account."""
    if cluster.find("secret", "s3") is not None:
        _deploy("infra/integrations/s3", "s3", images, "S3, for trying out")


def _deploy(folder: str, name: str, images: Mapping[str, str], what: str) -> None:
    cluster.apply(cluster.rendered(folder, images))

    def rolled_out() -> str | None:
        found = cluster.find("statefulset", name) or {"metadata": {"generation": None}}
        status = found.get("status", {})
        is_known = status.get("observedGeneration") == found["metadata"]["generation"]
        is_new = status.get("currentRevision") == status.get("updateRevision")
        return None if is_known and is_new and status.get("readyReplicas") else "its pod is not ready"

    cluster.wait(what, rolled_out, name)
