"""Rendering of an application for Seldon Core 2: a Model for each revision of the traffic, an Experiment with their shares, and a Secret.

A Model never changes, because Seldon Core 2 does not say of which generation a state is. The Experiment has one name for good, which is the
model's name in requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.domain import model_servers
from fuseml.servings import objects, storage
from fuseml.servings.objects import Object
from fuseml.servings.port import Revision, ServingSpec

RESOURCE = "seldon-core-v2-api"
COMPONENT = "seldon-model"
MANAGED = objects.managed(COMPONENT)
ACCOUNT_SUFFIX = ".seldon-v2"
"""What follows the name of the application's objects in that of its account. No other serving, and no other application, has the same one."""
SERVERS = model_servers.OFFERED[RESOURCE]
SCHEMES = ("s3", "gs", "https", "http")
ROUTED_ANNOTATION = "fuseml.io/routed"
"""The time of the last change of an Experiment."""
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`settling` are the seconds after a change of an Experiment in which its state may be the former one."""

    settling: float = 2.0


def object_name(application: str) -> str:
    """The name of the application's Experiment."""
    return objects.name_of(application, _LONGEST_NAME)


def model_in_requests(application: str) -> str:
    """The name of the model in the addresses of requests: that of the Experiment, as Seldon Core 2 routes by it."""
    return f"{object_name(application)}.experiment"


def model_name(application: str, revision: Revision) -> str:
    """The name of the revision's Model. A deleted Model ends later, so one that is registered again has another name."""
    return f"{object_name(application)}-r{revision.number:05}-{objects.digest(revision.registered)}"


def account_name(application: str) -> str:
    """The name of the application's Secret."""
    return f"{object_name(application)}{ACCOUNT_SUFFIX}"


def check(spec: ServingSpec) -> None:
    """Raises InvalidError for a specification that Seldon Core 2 cannot serve, with the way out."""
    for revision in served(spec):
        storage.place(revision.document, "Seldon Core 2", SCHEMES)
        revision.document.served(SERVERS)


def served(spec: ServingSpec) -> list[Revision]:
    """The revisions of the traffic."""
    return [objects.revision(spec, number) for number in sorted(spec.traffic)]


def model(spec: ServingSpec, revision: Revision) -> Object:
    """The Model of the revision."""
    document = revision.document
    choice = document.served(SERVERS)
    named = [choice.server] if document.model_server not in ("", model_servers.AUTO) else []
    memory = document.resources.limits.get("memory") or document.resources.requests.get("memory")
    body: Object = {
        "storageUri": storage.place(document, "Seldon Core 2", SCHEMES),
        "requirements": [choice.format, *(name for name in named if name != choice.format)],
        "replicas": 1,
    }
    if document.options.get("runtime"):
        body["server"] = document.options["runtime"]
    if memory:
        body["memory"] = memory
    if storage.s3_account(spec.newest.document.environment) is not None:
        body["secretName"] = account_name(spec.name)
    labels = {**objects.labels_of(COMPONENT, spec.name, revision), objects.REVISION_LABEL: str(revision.number)}
    return objects.sealed(
        {
            "apiVersion": "mlops.seldon.io/v1alpha1",
            "kind": "Model",
            "metadata": {"name": model_name(spec.name, revision), "labels": labels},
            "spec": body,
        }
    )


def experiment(spec: ServingSpec) -> Object:
    """The Experiment with the shares of the traffic."""
    candidates = [{"name": model_name(spec.name, revision), "weight": spec.traffic[revision.number]} for revision in served(spec)]
    return objects.sealed(
        {
            "apiVersion": "mlops.seldon.io/v1alpha1",
            "kind": "Experiment",
            "metadata": {"name": object_name(spec.name), "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
            "spec": {"candidates": candidates},
        }
    )


def secret(spec: ServingSpec) -> Object | None:
    """The Secret with the S3 account of the newest revision, as a remote of rclone. Temporary credentials are among them."""
    account = storage.s3_account(spec.newest.document.environment)
    if account is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": account_name(spec.name), "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
        "data": storage.encoded({"s3": storage.rclone_document(account)}),
    }
