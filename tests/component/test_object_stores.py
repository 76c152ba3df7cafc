"""Stores in Google Cloud Storage and Azure Blob Storage: records that name none, and servers that refuse or are away."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.contents import azure_blob, gcs, object_store
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.domain.registry import selector
from tests import object_servers

KNOWN = Address("dataset", "demo", "rows", f"sha256:{'0' * 64}")
ACCOUNT = {azure_blob.ACCOUNT: "team", azure_blob.ACCOUNT_KEY: "a2V5"}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("gcs", "https://storage.googleapis.com/bucket"),
        ("gcs", "gs:///prefix"),
        ("gcs", "gs://user@bucket"),
        ("azure-blob", "gs://bucket"),
        ("azure-blob", "azure://container?sig=x"),
    ],
)
def test_another_url_is_refused_with_the_right_form(resource: str, url: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"must be (gs://BUCKET|azure://CONTAINER)"):
        artifactstores.connect(Connection(resource, url, ACCOUNT))


@pytest.mark.parametrize(
    "variables", [{}, {azure_blob.ACCOUNT: "team"}, {azure_blob.ACCOUNT_KEY: "a2V5"}, {**ACCOUNT, azure_blob.SAS: "sig=x"}]
)
def test_an_incomplete_account_of_azure_is_refused_with_its_keys(variables: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidError, match=azure_blob.CONNECTION):
        artifactstores.connect(Connection("azure-blob", "azure://container", variables))


def test_the_facts_of_a_store_need_no_secret() -> None:
    for resource, url, keys in (
        ("gcs", "gs://bucket", [gcs.KEY]),
        ("azure-blob", "azure://c", [azure_blob.ACCOUNT, azure_blob.ACCOUNT_KEY]),
    ):
        binding = selector.Binding(
            name="store",
            extension_id="e",
            service_id="s",
            service_resource=resource,
            service_category="artifact-store",
            product="p",
            version="",
            zone="",
            url=url,
            endpoint_type="external",
            secret_keys=keys,
        )
        assert {"open", "write", "commit"} <= artifactstores.facts(binding).capabilities


def test_an_account_of_google_that_is_no_json_is_refused_without_its_text() -> None:
    pytest.importorskip("gcsfs", reason="needs gcsfs: install fuseml[gcs]")
    for text in ("canary-key", '["canary-key"]', '{"type": "service_account", "private_key": "canary-key"}'):
        store = artifactstores.connect(Connection("gcs", "gs://bucket", {gcs.KEY: text}))
        with pytest.raises(errors.PermanentError, match=gcs.KEY) as caught:
            store.describe(KNOWN)
        assert "canary" not in str(caught.value)


def test_a_server_that_is_away_is_a_temporary_error() -> None:
    pytest.importorskip("adlfs", reason="needs adlfs: install fuseml[azure]")
    connection = f"{azure_blob.connection_string(ACCOUNT)};BlobEndpoint=http://127.0.0.1:{closed_port()}/team"
    store = artifactstores.connect(Connection("azure-blob", "azure://container", {azure_blob.CONNECTION: connection}))
    with pytest.raises(errors.TemporaryError, match="cannot be reached"):
        store.describe(KNOWN)


def test_a_missing_container_and_a_refused_account_say_what_to_do(tmp_path: Path) -> None:
    with object_servers.azurite(tmp_path) as server:
        connection = server.variables[azure_blob.CONNECTION]
        missing = object_store.ObjectContents(azure_blob.AzureObjects("nowhere", connection))
        calls: list[Callable[[], object]] = [
            lambda: missing.put("a", [b"x"]),
            lambda: missing.put("a", [b"x" * object_store.PART]),
            lambda: missing.entries("a"),
        ]
        for call in calls:
            with pytest.raises(errors.PermanentError, match=r"there is no container 'nowhere' of Azure Blob Storage: create it"):
                call()
        refused = object_store.ObjectContents(
            azure_blob.AzureObjects(object_servers.BUCKET, connection.replace("AccountKey=E", "AccountKey=F"))
        )
        with pytest.raises(errors.PermanentError, match=azure_blob.CONNECTION):
            refused.size("a")


def test_a_missing_bucket_says_what_to_do(tmp_path: Path) -> None:
    with object_servers.google(tmp_path) as server:
        missing = object_store.ObjectContents(gcs.GoogleObjects("nowhere", server=server.variables[gcs.SERVER]))
        calls: list[Callable[[], object]] = [lambda: missing.put("a", [b"x"]), lambda: missing.put("a", [b"x" * object_store.PART])]
        for call in calls:
            with pytest.raises(errors.PermanentError, match=r"there is no bucket 'nowhere' of Google Cloud Storage: create it"):
                call()
