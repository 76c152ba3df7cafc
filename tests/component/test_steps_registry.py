"""Pull and push of images over HTTP: the differences between registries, and their failures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence

import pytest
import urllib3

from fuseml.steps import access, layers, references, registry, sdk

from . import oci_registry

DATA = b"layer" * 100_000
BLOB = layers.Blob(layers.digest(DATA), len(DATA))
CONFIGURATION = b'{"os": "linux"}'
ACCOUNT = references.Account(oci_registry.USER, oci_registry.PASSWORD)


def content() -> contextlib.closing[io.BytesIO]:
    return contextlib.closing(io.BytesIO(DATA))


Open = Callable[..., registry.Repository]


@pytest.fixture
def open_repository() -> Iterator[Open]:
    """Opens repositories of a registry; their connections are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_one(
            it: oci_registry.Registry, name: str = "team/target", account: references.Account | None = ACCOUNT, also: str = ""
        ) -> registry.Repository:
            scopes = [f"repository:{name}:pull,push", *([f"repository:{also}:pull"] if also else [])]
            repository = registry.Repository(references.parse(f"{it.host}/{name}", "it"), account=account, scopes=scopes, pauses=(0.0, 0.0))
            return stack.enter_context(contextlib.closing(repository))

        yield open_one


def image(blobs: Sequence[layers.Blob] = (BLOB,)) -> layers.Document:
    configuration = layers.Blob(layers.digest(CONFIGURATION), len(CONFIGURATION))
    descriptors = [{"mediaType": "x", "digest": blob.digest, "size": blob.size} for blob in (configuration, *blobs)]
    return {"schemaVersion": 2, "mediaType": layers.OCI_MANIFEST, "config": descriptors[0], "layers": descriptors[1:]}


@pytest.mark.parametrize("auth", ["", "basic", "token"])
def test_an_image_is_pushed_and_found_again(open_repository: Open, auth: str) -> None:
    with oci_registry.running(auth=auth) as it:
        target = open_repository(it)
        assert target.find("1") is None
        assert target.push(BLOB, content)
        target.push_bytes(CONFIGURATION)
        assert it.tags("team/target") == []
        digest = target.tag("1", image())
        assert open_repository(it).find("1") == digest
        assert open_repository(it).manifest(digest) == (digest, image())
        with open_repository(it).open(BLOB) as stream:
            assert stream.read() == DATA
        assert open_repository(it).document(layers.Blob(layers.digest(CONFIGURATION), len(CONFIGURATION))) == {"os": "linux"}


def test_an_existing_blob_is_not_sent_again(open_repository: Open) -> None:
    with oci_registry.running() as it:
        assert open_repository(it).push(BLOB, content)
        assert not open_repository(it).push(BLOB, content)
        assert [request.split()[0] for request in it.requests] == ["HEAD", "POST", "PUT", "HEAD"]


@pytest.mark.parametrize("auth", ["", "basic", "token"])
def test_a_blob_of_another_repository_of_the_registry_is_mounted(open_repository: Open, auth: str) -> None:
    with oci_registry.running(auth=auth) as it:
        it.blobs["team/base", BLOB.digest] = DATA
        assert not open_repository(it, also="team/base").push(BLOB, content, "team/base")
        assert it.blobs["team/target", BLOB.digest] == DATA
        assert not any(request.startswith("PUT") for request in it.requests)


def test_without_a_mount_the_bytes_are_sent(open_repository: Open) -> None:
    for behaviour in ({"mounts": False}, {"auth": "token", "denied": {"repository:team/base:pull"}}):
        with oci_registry.running(**behaviour) as it:
            it.blobs["team/base", BLOB.digest] = DATA
            assert open_repository(it, also="team/base").push(BLOB, content, "team/base")
            assert it.blobs["team/target", BLOB.digest] == DATA
    with oci_registry.running(statuses={"POST uploads": [(405, {})]}) as it:
        assert open_repository(it).push(BLOB, content, "team/base")


def test_layers_stream_from_one_registry_to_another(open_repository: Open) -> None:
    with oci_registry.running(auth="token") as one, oci_registry.running(auth="basic") as other:
        one.blobs["team/base", BLOB.digest] = DATA
        source = open_repository(one, "team/base")
        assert open_repository(other).push(BLOB, lambda: source.open(BLOB))
        assert other.blobs["team/target", BLOB.digest] == DATA


def test_a_redirected_blob_is_fetched_without_credentials(open_repository: Open) -> None:
    with oci_registry.running() as other, oci_registry.running(auth="token", elsewhere=other.host) as it:
        other.blobs["team/target", BLOB.digest] = it.blobs["team/target", BLOB.digest] = DATA
        with open_repository(it).open(BLOB) as stream:
            assert stream.read() == DATA
        assert other.foreign == []


def test_a_lost_connection_is_retried(open_repository: Open, capsys: pytest.CaptureFixture[str]) -> None:
    with oci_registry.running(lost=2) as it:
        assert open_repository(it).push(BLOB, content)
        assert it.blobs["team/target", BLOB.digest] == DATA
    log = capsys.readouterr().out
    assert log.count("does not answer correctly") == 2
    assert "canary" not in log


def test_an_unreachable_registry_is_reported(open_repository: Open) -> None:
    with oci_registry.running(lost=3) as it, pytest.raises(sdk.StepError, match=rf"{it.host} does not answer correctly: the connection"):
        open_repository(it).push(BLOB, content)
    with pytest.raises(sdk.StepError, match="does not answer correctly: no connection"):
        open_repository(it).find("1")


def test_a_busy_registry_is_retried(open_repository: Open) -> None:
    busy = [(503, {}), (429, {"Retry-After": "0"})]
    with oci_registry.running(statuses={"PUT uploads": list(busy), "PUT manifests": list(busy), "GET manifests": list(busy)}) as it:
        target = open_repository(it)
        assert target.find("1") is None
        target.push(BLOB, content)
        target.push_bytes(CONFIGURATION)
        target.tag("1", image())
        assert it.tags("team/target") == ["1"]


def test_an_expired_token_is_renewed(open_repository: Open) -> None:
    with oci_registry.running(auth="token") as it:
        target = open_repository(it)
        target.push(BLOB, content)
        it.tokens.clear()
        target.push_bytes(CONFIGURATION)
        it.tokens.clear()
        target.tag("1", image())
        assert it.tags("team/target") == ["1"]


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("account", [None, references.Account("eve", "canary-wrong")])
def test_a_refused_push_names_the_account_and_no_secret(open_repository: Open, auth: str, account: references.Account | None) -> None:
    with oci_registry.running(auth=auth) as it, pytest.raises(sdk.StepError) as caught:
        open_repository(it, account=account).push(BLOB, content)
    assert it.host in str(caught.value)
    assert "'eve'" in str(caught.value) if account else "without an account" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_refusal_has_the_registrys_reason(open_repository: Open) -> None:
    with oci_registry.running(statuses={"POST uploads": [(403, {})]}) as it, pytest.raises(access.RefusalError) as caught:
        open_repository(it).push(BLOB, content)
    assert str(caught.value).startswith(f"the registry {it.host} does not accept an image for {it.host}/team/target: 403 DENIED: not now")
    assert "link a Secret" in str(caught.value)


def test_content_with_a_wrong_digest_is_refused_on_both_sides(open_repository: Open) -> None:
    with oci_registry.running() as it:
        wrong = layers.Blob(layers.digest(b"other"), BLOB.size)
        with pytest.raises(access.RefusalError, match="DIGEST_INVALID"):
            open_repository(it).push(wrong, content)
        it.blobs["team/target", wrong.digest] = DATA
        with pytest.raises(access.RefusalError, match="served another blob"):
            open_repository(it).document(wrong)
        it.manifests["team/target", wrong.digest] = (layers.OCI_MANIFEST, b"{}")
        with pytest.raises(access.RefusalError, match="served the manifest"):
            open_repository(it).manifest(wrong.digest)


def test_an_image_without_its_layers_is_refused(open_repository: Open) -> None:
    with oci_registry.running() as it:
        with pytest.raises(access.RefusalError, match="400 MANIFEST_BLOB_UNKNOWN"):
            open_repository(it).tag("1", image())
        assert it.tags("team/target") == []


def test_no_password_is_sent_to_a_token_service_without_tls() -> None:
    authorisation = access.Access(urllib3.PoolManager(), "https://registry.example.com", ACCOUNT, [])
    with pytest.raises(access.RefusalError, match="names no token service with an https URL"):
        authorisation.answer(['Bearer realm="http://tokens.example.com/token",service="registry"'])
    assert authorisation.header is None


def test_a_refresh_token_is_exchanged_for_an_access_token(open_repository: Open) -> None:
    with oci_registry.running(auth="token") as it:
        assert open_repository(it, account=references.Account("<token>", identity=oci_registry.PASSWORD)).push(BLOB, content)
        with pytest.raises(access.RefusalError, match="refuses the account 'eve': 401 UNAUTHORIZED"):
            open_repository(it, account=references.Account("eve", identity="canary")).push(BLOB, content)


def test_a_server_that_is_no_registry_is_reported(open_repository: Open) -> None:
    with oci_registry.running() as it:
        it.manifests["team/target", "1"] = (layers.OCI_MANIFEST, b"<html>a page of a proxy</html>")
        with pytest.raises(access.RefusalError, match=r"served no manifest for .*: is it a registry\?"):
            open_repository(it).manifest("1")
