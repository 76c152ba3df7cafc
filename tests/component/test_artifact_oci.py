"""Images of a registry with accounts as artifacts: authentication, damage, refusals."""

from __future__ import annotations

import tracemalloc

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


def test_no_manifest_is_read_where_its_digest_is_enough() -> None:
    with oci_registry.running() as registry:
        digest, store = registry.put_image("team/demo/trainer", "v1", b"1"), connect(registry)
        assert store.commit(store.place("runnable", "demo", "trainer"), digest) == image(digest)
        assert store.resolve("runnable", "demo", "trainer", "v1") == image(digest)
        assert store.tags(image(digest)) == ["v1"]
        assert store.resolve("image", "demo", "trainer", "v1") == Address("image", "demo", "trainer", digest)
        assert not [request for request in registry.requests if request.startswith("GET") and "/manifests/" in request]


def test_a_digest_that_the_registry_does_not_state_is_computed() -> None:
    with oci_registry.running() as registry:
        digest, store = registry.put_image("team/demo/trainer", "v1", b"1"), connect(registry)
        for stated in ("", "nonsense", "sha256:" + "0" * 64):
            registry.stated = stated
            if not stated.startswith("sha256"):
                assert store.resolve("runnable", "demo", "trainer", "v1") == image(digest)
            assert store.commit(store.place("runnable", "demo", "trainer"), digest) == image(digest)


_ENDLESS = b"[" + b" " * (5 << 20)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"tags": 1}', b'{"tags": [1]}', b'{"tags": {"a": 1}}', b'{"tags": ["../x"]}', _ENDLESS]
)
def test_nonsense_in_place_of_tags_is_refused(body: bytes) -> None:
    with oci_registry.running(bodies={"GET tags": body}) as registry:
        digest, store = registry.put_image("team/demo/trainer", "v1", b"1"), connect(registry)
        for call in (lambda: store.versions("runnable", "demo", "trainer"), lambda: store.tags(image(digest))):
            with pytest.raises(errors.PermanentError, match="answer"):
                call()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"layers": 1}',
        '{"layers": [1]}',
        '{"layers": [{"size": "1"}]}',
        '{"layers": [{"size": -1}]}',
        '{"manifests": [{"size": 1e999}]}',
        '{"config": 1}',
        '{"config": {"digest": 1}}',
        '{"config": {"digest": "sha256:%s", "size": []}}' % ("0" * 64),
        '{"annotations": ["a"]}',
        "[" * 100_000,
    ],
)
def test_nonsense_in_place_of_a_manifest_is_refused(text: str) -> None:
    with oci_registry.running() as registry:
        digest = oci_registry.digest_of(text.encode())
        manifest = ("application/vnd.oci.image.manifest.v1+json", text.encode())
        registry.manifests["team/demo/trainer", digest] = registry.manifests["team/demo/trainer", "v1"] = manifest
        store = connect(registry)
        with pytest.raises(errors.PermanentError, match="answer"):
            store.describe(image(digest))


@pytest.mark.parametrize("labels", [["a"], "x"])
def test_nonsense_in_place_of_labels_is_refused(labels: object) -> None:
    with oci_registry.running() as registry:
        digest = registry.put_image("team/demo/trainer", "v1", b"1", Labels=labels)
        with pytest.raises(errors.PermanentError, match="answer"):
            connect(registry).describe(image(digest))


@pytest.mark.parametrize("kind", ["manifests", "blobs", "token"])
def test_no_answer_takes_more_memory_than_its_bound(kind: str) -> None:
    body = b'{"token": "x' + b" " * (64 << 20)
    with oci_registry.running(auth="token", bodies={f"GET {kind}": body}) as registry:
        digest, store = registry.put_image("team/demo/trainer", "v1", b"1"), connect(registry)
        tracemalloc.start()
        with pytest.raises(errors.PermanentError):
            store.describe(image(digest))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 << 20


def test_a_redirect_leads_blobs_only_and_from_https_never_to_http() -> None:
    with oci_registry.running() as registry:
        digest = registry.put_image("team/demo/trainer", "v1", b"1")
        registry.statuses["GET manifests"] = [(307, {"Location": f"http://{registry.host}/v2/team/demo/trainer/manifests/v1"})]
        with pytest.raises(errors.PermanentError, match="307"):
            connect(registry).describe(image(digest))
        registry.statuses["GET blobs"] = [(307, {"Location": "ftp://127.0.0.1/x"})]
        with pytest.raises(errors.PermanentError, match="redirects to"):
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
