"""The artifact store of a project for a kind: found by a selector, with the credentials that the project may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import choice
from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.domain.registry.selector import Context, Selector
from fuseml.runtime import secrets
from fuseml.store import database, extensions
from tests import agents
from tests.contract.artifact_stores import sources

NOON = "2026-01-01T12:00:00.000000Z"
ANY = Selector()


@pytest.fixture
def keyring() -> secrets.Keyring:
    return secrets.Keyring([secrets.new_key()])


def register(store: database.Database, keyring: secrets.Keyring, id: str, resource: str, url: str, **service: Any) -> None:
    parts = {"id": "store", "resource": resource, "category": artifactstores.CATEGORY, "endpoints": [{"url": url}], **service}
    record = extension.Extension.model_validate({"id": id, "product": id, "services": [parts]})
    with store.write() as session:
        extensions.add(session, extension.map_secrets(record, keyring.seal), NOON)


def chosen(
    store: database.Database, keyring: secrets.Keyring, project: str, wanted: Selector = ANY, kind: str = "dataset"
) -> artifactstores.ArtifactStore:
    with store.read() as session:
        return choice.of_project(session, kind, wanted, Context(project=project), keyring.unseal)


def test_projects_choose_their_stores_and_get_their_own_credentials(
    sqlite_store: database.Database, keyring: secrets.Keyring, tmp_path: Path
) -> None:
    credentials = [
        {
            "id": "red",
            "scope": "project",
            "projects": ["red"],
            "configuration": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "of red"},
        },
        {"id": "all", "scope": "global", "configuration": {"AWS_ACCESS_KEY_ID": "b", "AWS_SECRET_ACCESS_KEY": "of all"}},
    ]
    configuration = {"FUSEML_ARTIFACTS_BUCKET": "artifacts", "TOKEN": extension.STEP_TOKEN}
    register(sqlite_store, keyring, "minio", "s3", "http://minio:9000", credentials=credentials, configuration=configuration)
    register(sqlite_store, keyring, "shelf", "folder", tmp_path.as_uri())
    minio = Selector(product="minio")
    environments = {
        project: chosen(sqlite_store, keyring, project, minio).place("dataset", project, "iris").environment for project in ("red", "blue")
    }
    assert {project: values["AWS_SECRET_ACCESS_KEY"] for project, values in environments.items()} == {"red": "of red", "blue": "of all"}
    assert all("TOKEN" not in values for values in environments.values())
    assert {values["AWS_ENDPOINT_URL_S3"] for values in environments.values()} == {"http://minio:9000"}
    assert chosen(sqlite_store, keyring, "red", Selector(extension_id="shelf")).resource == "folder"


def test_a_project_finds_its_agent_with_the_token_of_its_record(
    sqlite_store: database.Database, keyring: secrets.Keyring, tmp_path: Path
) -> None:
    with agents.store(tmp_path) as agent:
        credentials = [
            {"id": project, "scope": "project", "projects": [project], "configuration": {"FUSEML_AGENT_TOKEN": token}}
            for project, token in (("red", agent.token), ("blue", "wrong-token-of-some-length"))
        ]
        register(sqlite_store, keyring, "shelf", "fuseml-artifact-store", agent.url, credentials=credentials, auth_required=True)
        store = chosen(sqlite_store, keyring, "red")
        place = store.place("dataset", "red", "iris")
        address = store.commit(place, store.write(place, sources({"a": b"1"})))
        assert [version.address for version in store.versions("dataset", "red", "iris").versions] == [address]
        with pytest.raises(errors.PermanentError, match="refuses the token"):
            chosen(sqlite_store, keyring, "blue").versions("dataset", "red", "iris")
        with pytest.raises(errors.UnresolvedError, match="it needs credentials"):
            chosen(sqlite_store, keyring, "green")


def test_a_selector_without_a_store_is_refused_with_the_reason(
    sqlite_store: database.Database, keyring: secrets.Keyring, tmp_path: Path
) -> None:
    with pytest.raises(errors.UnresolvedError, match="selector 'dataset-store' matches nothing"):
        chosen(sqlite_store, keyring, "red")
    register(sqlite_store, keyring, "shelf", "folder", tmp_path.as_uri())
    register(sqlite_store, keyring, "gas", "gas", "http://gas")
    assert chosen(sqlite_store, keyring, "red", Selector(product="shelf")).resource == "folder"
    with pytest.raises(errors.InvalidError, match="no artifact store has the resource 'gas'"):
        chosen(sqlite_store, keyring, "red", Selector(product="gas"))
    with pytest.raises(errors.InvalidError, match="holds no gas"):
        chosen(sqlite_store, keyring, "red", Selector(product="shelf"), kind="gas")
