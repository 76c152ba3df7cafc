"""Stores of the contents of artifacts, behind one port: a bucket or folder of FuseML's own, and the tools that hold artifacts already.

A store is found as every tool is, by a selector (`category: artifact-store`), and gets its address and variables as arguments. Contents go
between the store and the workload; no function carries them. A store is one line of `CONNECTORS`, or an entry point of the group
`fuseml.artifactstores` in another package, and passes the contract suite `tests/contract/test_artifact_store.py`.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.artifactstores.port import (
    CAPABILITIES,
    About,
    ArtifactStore,
    Brought,
    Capability,
    Changes,
    Description,
    Discards,
    File,
    Location,
    Opened,
    Page,
    Place,
    Pushed,
    PushedStore,
    Source,
    Version,
)
from fuseml.domain import artifact, errors
from fuseml.plugins import Seam

if TYPE_CHECKING:
    from fuseml.domain.registry import artifact_stores, selector
    from fuseml.githosts import GitHost

__all__ = [
    "CAPABILITIES",
    "CATEGORY",
    "CONNECTORS",
    "PLUGINS",
    "About",
    "ArtifactStore",
    "Brought",
    "Capability",
    "Changes",
    "Connection",
    "Description",
    "Discards",
    "File",
    "Location",
    "Opened",
    "Page",
    "Place",
    "Pushed",
    "PushedStore",
    "Source",
    "Version",
    "connect",
    "facts",
]

CATEGORY = artifact.STORE_CATEGORY
"""The category of the services that selectors of artifact stores ask for."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The facts of a binding about a store: the resource of the service, its URL, and its variables with the secrets of the credentials.

    `project` is the one that the store is connected for. `git` is the git host of the codesets, where the caller has it; else the record names it.
    """

    resource: str
    url: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    project: str = ""
    git: GitHost | None = field(default=None, repr=False)

    def setting(self, key: str) -> str:
        """A variable of the binding. Raises InvalidError with its name if it is not set."""
        if not self.environment.get(key):
            raise errors.InvalidError(f"the record of the artifact store {self.resource!r} must configure {key}")
        return self.environment[key]


Connector = Callable[[Connection], ArtifactStore]


def _bucket(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import bucket
    from fuseml.contents import s3

    name, _, prefix = connection.setting("FUSEML_ARTIFACTS_BUCKET").partition("/")
    variables = connection.environment
    uri = "/".join(part for part in (f"s3://{name}", prefix.strip("/")) if part)
    environment = {**variables, **({"AWS_ENDPOINT_URL_S3": connection.url} if connection.url else {})}
    return bucket.BucketStore(
        s3.S3Contents(name, prefix.strip("/"), s3.Account.of(variables, connection.url)), uri, environment, resource=connection.resource
    )


def _place(connection: Connection, scheme: str, noun: str) -> tuple[str, str]:
    """The bucket and the prefix in the URL of a connection."""
    url = urllib.parse.urlsplit(connection.url)
    if url.scheme != scheme or not url.netloc or "@" in url.netloc or url.query or url.fragment:
        raise errors.InvalidError(
            f"the URL of the artifact store {connection.resource!r} must be {scheme}://{noun}, or {scheme}://{noun}/PREFIX"
        )
    return url.netloc, url.path.strip("/")


def _gcs(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import bucket
    from fuseml.contents import gcs, object_store

    name, prefix = _place(connection, "gs", "BUCKET")
    variables = connection.environment
    objects = gcs.GoogleObjects(name, variables.get(gcs.KEY, ""), variables.get(gcs.SERVER, ""))
    contents = object_store.ObjectContents(objects, prefix)
    return bucket.BucketStore(contents, connection.url, variables, resource=connection.resource)


def _azure(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import bucket
    from fuseml.contents import azure_blob, object_store

    name, prefix = _place(connection, "azure", "CONTAINER")
    objects = azure_blob.AzureObjects(name, azure_blob.connection_string(connection.environment))
    contents = object_store.ObjectContents(objects, prefix)
    return bucket.BucketStore(contents, connection.url, connection.environment, resource=connection.resource)


def _folder(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import bucket
    from fuseml.contents import filesystem

    url = urllib.parse.urlsplit(connection.url)
    if url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise errors.InvalidError(f"the URL of the artifact store {connection.resource!r} must be file:///FOLDER")
    path = Path(urllib.parse.unquote(url.path))
    return bucket.BucketStore(filesystem.FileContents(path), connection.url, connection.environment, resource=connection.resource)


def _mlflow(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import mlflow
    from fuseml.contents import mlflow as client

    tracking = client.Tracking(connection.url, connection.environment)
    return mlflow.MlflowStore(tracking, connection.url, connection.environment, project=connection.project or "mlflow")


def _gitea(connection: Connection) -> ArtifactStore:
    from fuseml import githosts
    from fuseml.artifactstores import git

    # Its webhooks are those of codesets, which this store does not make.
    host = githosts.connect(connection.url, connection.setting("FUSEML_GIT_TOKEN"), "")
    return git.GitStore(host, resource=connection.resource, has_pages=True)


def _dvc(connection: Connection) -> ArtifactStore:
    from fuseml import githosts
    from fuseml.artifactstores import dvc, dvc_remote

    host = connection.git
    if host is None:
        url = connection.setting("FUSEML_GIT_URL")
        # The folder of the embedded server's repositories is opened without an account.
        host = githosts.connect(url, "" if url.startswith("file://") else connection.setting("FUSEML_GIT_TOKEN"), "")
    variables = {key: value for key, value in connection.environment.items() if key != "FUSEML_GIT_TOKEN"}
    return dvc.DvcStore(host, dvc_remote.Remote(connection.url, variables), variables)


def _oci(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import oci

    variables = connection.environment
    prefix, user, password = (variables.get(key, "") for key in ("FUSEML_IMAGE_PREFIX", "REGISTRY_USERNAME", "REGISTRY_PASSWORD"))
    return oci.OciStore(connection.url, prefix, user, password, variables)


def _lakefs(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import lakefs, lakefs_api

    name, _, prefix = connection.setting("FUSEML_LAKEFS_REPOSITORY").partition("/")
    variables = connection.environment
    repository = lakefs_api.Repository(
        connection.url, name, variables.get("AWS_ACCESS_KEY_ID", ""), variables.get("AWS_SECRET_ACCESS_KEY", "")
    )
    branch = variables.get("FUSEML_LAKEFS_BRANCH") or "main"
    return lakefs.LakefsStore(repository, connection.url, branch=branch, prefix=prefix, environment=variables, project=connection.project)


def _mlrun(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import mlrun

    return mlrun.MlrunStore(connection.url, connection.environment, project=connection.project)


def _pachyderm(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import pachyderm

    return pachyderm.PachydermStore(connection.url, connection.environment)


def _agent(connection: Connection) -> ArtifactStore:
    from fuseml.artifactstores import remote

    return remote.RemoteStore(connection.url, connection.environment)


PUSHED = frozenset({"dvc"})
"""The resources of the stores that are a `PushedStore`."""

AGENT = "fuseml-artifact-store"
"""The resource of a store behind an agent."""

AGENT_KINDS = "FUSEML_ARTIFACT_KINDS"
"""The key of an agent's record with the kinds that runs may keep there, separated by commas; all by default."""

CONNECTORS: Mapping[str, Connector] = {
    "s3": _bucket,
    "gcs": _gcs,
    "azure-blob": _azure,
    "folder": _folder,
    "mlflow-tracking": _mlflow,
    "gitea": _gitea,
    "dvc": _dvc,
    "oci-registry": _oci,
    "lakefs": _lakefs,
    "mlrun": _mlrun,
    "pachyderm": _pachyderm,
    AGENT: _agent,
}
"""Resource of a service -> constructor of its store. Another store is one more line."""

PLUGINS: Seam[Connector] = Seam(
    "fuseml.artifactstores",
    1,
    CONNECTORS,
    refusal=errors.PermanentError,
    own=errors.FusemlError,
    shape="a callable that takes a Connection",
)
"""Connectors of other packages, each under the resource of its store."""

URL_VARIABLES: Mapping[str, str] = {
    "s3": "AWS_ENDPOINT_URL_S3",
    "lakefs": "AWS_ENDPOINT_URL_S3",
    "mlrun": "MLRUN_DBPATH",
    "pachyderm": "PACHD_ADDRESS",
    "mlflow-tracking": "MLFLOW_TRACKING_URI",
}
"""Resource -> the variable in which the clients of that tool expect its URL."""


def connect(connection: Connection) -> ArtifactStore:
    """The store of a binding; it connects at its first call. Raises InvalidError for a resource that is no artifact store, and PermanentError
    for a plugin that cannot be used."""
    resource = connection.resource
    if resource in CONNECTORS:
        return CONNECTORS[resource](connection)
    plugin = PLUGINS.get(resource)
    if plugin is None:
        known = ", ".join(sorted({*CONNECTORS, *PLUGINS.names()}))
        raise errors.InvalidError(f"no artifact store has the resource {resource!r}; the known ones are {known}")
    return PLUGINS.call(resource, plugin, connection)


def facts(binding: selector.Binding) -> artifact_stores.Facts:
    """The facts about the store of a binding, without a connection to it. Raises InvalidError for a binding of no store.

    An agent declares its kinds and operations over the network, so its record states the kinds, and its refusals fail the step.
    """
    # Imported here: the programs before and after a step, which need no database, would spend most of their time on its import.
    from fuseml.domain.registry import artifact_stores

    if binding.service_resource == AGENT:
        return artifact_stores.Facts(_kinds_of_agent(binding), frozenset(CAPABILITIES), {})
    # Placeholders stand for the secrets: no fact depends on one.
    secrets = {key: f"<secret {key}>" for key in binding.secret_keys}
    store = connect(Connection(binding.service_resource, binding.url, {**binding.configuration, **secrets}))
    variable = URL_VARIABLES.get(binding.service_resource)
    return artifact_stores.Facts(store.kinds, frozenset(store.capabilities), {variable: binding.url} if variable and binding.url else {})


def _kinds_of_agent(binding: selector.Binding) -> frozenset[str]:
    stated = [kind.strip() for kind in binding.configuration.get(AGENT_KINDS, ",".join(artifact.KINDS)).split(",")]
    if unknown := [kind for kind in stated if kind not in artifact.KINDS]:
        known = ", ".join(artifact.KINDS)
        raise errors.InvalidError(f"{AGENT_KINDS} of {binding.extension_id} names the kind {unknown[0][:50]!r}; the kinds are {known}")
    return frozenset(stated)
