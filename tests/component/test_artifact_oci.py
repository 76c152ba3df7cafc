"""Images of a registry with accounts as artifacts: authentication, damage, refusals."""

from __future__ import annotations

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from tests.component import oci_registry


def connect(registry: oci_registry.Registry, password: str = oci_registry.PASSWORD) -> artifactstores.ArtifactStore:
    account = {"REGISTRY_USERNAME": oci_registry.USER, "REGISTRY_PASSWORD": password, "FUSEML_IMAGE_PREFIX": "team"}
    return artifactstores.connect(Connection("oci-registry", f"http://{registry.host}", account))


def image(digest: str) -> Address:
    return Address("runnable", "demo", "trainer", digest)


@pytest.mark.parametrize("auth", ["token", "basic", ""])
def test_an_image_is_described_with_its_labels_and_the_size_of_its_layers(auth: str) -> None:
    with oci_registry.running(auth=auth) as registry:
        digest = registry.put_image("team/demo/trainer", "v1", b"12345", b"678", Labels={"team": "red"})
        store = connect(registry)
        described = store.describe(image(digest))
        assert (described.size, described.digest, dict(described.about.metadata)) == (8, digest, {"team": "red"})
        assert described.about.format == "application/vnd.oci.image.manifest.v1+json"
        assert store.locate(image(digest)).uri == f"oci://{registry.host}/team/demo/trainer@{digest}"
        assert store.resolve("runnable", "demo", "trainer", "v1") == image(digest)
        store.tag(image(digest), "best")
        assert store.tags(image(digest)) == ["best", "v1"]


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_a_wrong_account_is_refused_and_kept_out_of_messages(auth: str) -> None:
    with oci_registry.running(auth=auth) as registry:
        digest = registry.put_image("team/demo/trainer", "v1", b"1")
        store = connect(registry, "canary-wrong")
        with pytest.raises(errors.PermanentError) as refused:
            store.describe(image(digest))
        assert not isinstance(refused.value, errors.NotFoundError)
        assert "canary-wrong" not in repr([refused.value, store, store.place("runnable", "demo", "trainer")])


def test_a_manifest_that_is_not_the_digests_is_refused() -> None:
    with oci_registry.running() as registry:
        digest = registry.put_image("team/demo/trainer", "v1", b"1")
        kind, data = registry.manifests["team/demo/trainer", digest]
        registry.manifests["team/demo/trainer", digest] = (kind, data.replace(b'"size": 1', b'"size": 2'))
        with pytest.raises(errors.PermanentError, match="is damaged in the registry"):
            connect(registry).describe(image(digest))


@pytest.mark.parametrize("name", ["Trainer", "a b", "../x", "a//b", "-a", "x" * 256])
def test_a_name_that_no_repository_can_have_is_refused(name: str) -> None:
    store = artifactstores.connect(Connection("oci-registry", "http://127.0.0.1:1"))
    with pytest.raises(errors.InvalidError, match="cannot be a repository of images"):
        store.versions("runnable", "demo", name)


def test_a_registry_that_is_away_is_a_temporary_error() -> None:
    store = artifactstores.connect(Connection("oci-registry", "http://127.0.0.1:1"))
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        store.describe(image("sha256:" + "0" * 64))
