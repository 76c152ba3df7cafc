"""The services that `task deploy` adds for trying out: the conditions, and their addresses in the settings of the functions."""

from __future__ import annotations

import urllib.parse

import pytest

from fuseml.deployment import functions, tryout
from tests.contract.manifests import MANIFESTS, Object

S3_MANIFEST = "infra/integrations/s3/s3.yaml"


def manifest(path: str, kind: str) -> Object:
    (document,) = (document for file, document in MANIFESTS if (file, document["kind"]) == (path, kind))
    return document


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("infra/kubernetes/postgresql/postgresql.yaml", tryout.POSTGRESQL_IMAGE),
        ("infra/integrations/gitea/gitea.yaml", tryout.GITEA_IMAGE),
        (S3_MANIFEST, tryout.S3_IMAGE),
    ],
)
def test_the_replaceable_image_is_the_image_of_the_manifest(path: str, image: str) -> None:
    pod = manifest(path, "StatefulSet")["spec"]["template"]["spec"]
    assert {container["image"] for container in (*pod["containers"], *pod.get("initContainers", ()))} == {image}


def test_the_s3_server_has_the_address_and_bucket_of_the_functions_settings() -> None:
    address = urllib.parse.urlsplit(tryout.S3_SETTINGS["AWS_ENDPOINT_URL_S3"])
    service = manifest(S3_MANIFEST, "Service")
    assert address.hostname == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    pod = manifest(S3_MANIFEST, "StatefulSet")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert [port["port"] for port in service["spec"]["ports"]] == [address.port]
    assert f"--port=:{address.port}" in command
    bucket = urllib.parse.urlsplit(tryout.S3_SETTINGS["FUSEML_CONTENTS_URL"]).netloc
    assert f"{command[-1]}/{bucket}" in pod["initContainers"][0]["command"]


OWN = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "hers"}


@pytest.mark.parametrize(
    ("configured", "given", "installed", "expected"),
    [
        ({}, {}, False, True),
        ({}, {}, True, True),
        ({"FUSEML_CONTENTS_URL": "s3://logs"}, {}, False, False),
        ({"FUSEML_CONTENTS_URL": "file:///logs"}, {}, True, False),
        ({"AWS_ENDPOINT_URL_S3": "https://minio.example.com"}, {}, False, False),
        ({}, OWN, False, False),
        ({}, OWN, True, True),
    ],
)
def test_an_s3_server_is_deployed_when_none_is_configured(
    configured: dict[str, str], given: dict[str, str], *, installed: bool, expected: bool
) -> None:
    assert tryout.needs_s3(configured, given, installed=installed) is expected


def test_default_s3_settings_are_removed_only_as_a_whole() -> None:
    others = {"FUSEML_ZONE": "here", "AWS_REGION": "us-east-1"}
    assert tryout.without_trial(others | tryout.S3_SETTINGS, tryout.S3_SETTINGS) == others
    theirs = others | tryout.S3_SETTINGS | {"AWS_ENDPOINT_URL_S3": "https://minio.example.com"}
    assert tryout.without_trial(theirs, tryout.S3_SETTINGS) == theirs
    assert tryout.without_trial(others, {}) == others


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ("admin:aa,workload:bb", "admin:aa"),
        ("admin:aa, workload:bb", "admin:aa"),
        ("steps:workload:bb,ada:admin:aa", "ada:admin:aa"),
        ("workload:admin:aa", "workload:admin:aa"),
        ("admin:aa", "admin:aa"),
    ],
)
def test_deploying_again_removes_the_token_that_all_steps_shared(stored: str, kept: str) -> None:
    assert functions.without_shared_token(stored) == kept
