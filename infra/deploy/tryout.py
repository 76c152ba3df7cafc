"""What is deployed for trying out where nothing of one's own is named: PostgreSQL and Gitea.

Each is a pod with a volume in the namespace of the functions.
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


def postgresql_url() -> str:
    """Where the database will be, with a password that is made now."""
    password = secrets.token_urlsafe(24)
    cluster.create_secret("postgresql", cluster.NAMESPACE, {"password": password})
    return f"postgresql+psycopg://fuseml:{password}@postgresql.{cluster.NAMESPACE}/fuseml"


def deploy_postgresql(images: Mapping[str, str]) -> None:
    """If it is what we made a password for."""
    if cluster.find("secret", "postgresql") is not None:
        _deploy("infra/kubernetes/postgresql", "postgresql", images)
        cluster.say("PostgreSQL, for trying out")


def deploy_gitea(images: Mapping[str, str]) -> None:
    """If no token of a git host is known; in the Secret an administrator's token of it, which only Gitea itself can make."""
    if "FUSEML_GIT_TOKEN" in cluster.data("secret", "fuseml"):
        return
    _deploy("infra/integrations/gitea", "gitea", images)
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
    cluster.say("Gitea, for trying out")


def _deploy(folder: str, name: str, images: Mapping[str, str]) -> None:
    cluster.apply(cluster.rendered(folder, images))
    cluster.kubectl("rollout", "status", f"statefulset/{name}", "--namespace", cluster.NAMESPACE, "--timeout=300s")
