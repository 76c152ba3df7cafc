"""Images to and from a registry, over HTTP: every way in which registries differ, and everything that goes wrong with them."""

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


Opened = Callable[..., registry.Repository]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Makes repositories of a registry, whose connections are closed in the end."""
    with contextlib.ExitStack() as stack:

        def made(
            it: oci_registry.Registry, name: str = "team/made", account: references.Account | None = ACCOUNT, also: str = ""
        ) -> registry.Repository:
            scopes = [f"repository:{name}:pull,push", *([f"repository:{also}:pull"] if also else [])]
            found = registry.Repository(references.parse(f"{it.host}/{name}", "it"), account=account, scopes=scopes, pauses=(0.0, 0.0))
            return stack.enter_context(contextlib.closing(found))

        yield made


def image(blobs: Sequence[layers.Blob] = (BLOB,)) -> layers.Document:
    about = layers.Blob(layers.digest(CONFIGURATION), len(CONFIGURATION))
    described = [{"mediaType": "x", "digest": blob.digest, "size": blob.size} for blob in (about, *blobs)]
    return {"schemaVersion": 2, "mediaType": layers.OCI_MANIFEST, "config": described[0], "layers": described[1:]}


@pytest.mark.parametrize("auth", ["", "basic", "token"])
def test_an_image_is_pushed_and_found_again(opened: Opened, auth: str) -> None:
    with oci_registry.running(auth=auth) as it:
        target = opened(it)
        assert target.find("1") is None
        assert target.push(BLOB, content)
        target.push_bytes(CONFIGURATION)
        assert it.tags("team/made") == []
        digest = target.tag("1", image())
        assert opened(it).find("1") == digest
        assert opened(it).manifest(digest) == (digest, image())
        with opened(it).open(BLOB) as found:
            assert found.read() == DATA
        assert opened(it).document(layers.Blob(layers.digest(CONFIGURATION), len(CONFIGURATION))) == {"os": "linux"}


def test_what_is_there_is_not_sent_again(opened: Opened) -> None:
    with oci_registry.running() as it:
        assert opened(it).push(BLOB, content)
        assert not opened(it).push(BLOB, content)
        assert [asked.split()[0] for asked in it.asked] == ["HEAD", "POST", "PUT", "HEAD"]


@pytest.mark.parametrize("auth", ["", "basic", "token"])
def test_what_another_repository_of_the_registry_has_is_mounted(opened: Opened, auth: str) -> None:
    with oci_registry.running(auth=auth) as it:
        it.blobs["team/base", BLOB.digest] = DATA
        assert not opened(it, also="team/base").push(BLOB, content, "team/base")
        assert it.blobs["team/made", BLOB.digest] == DATA
        assert not any(asked.startswith("PUT") for asked in it.asked)


def test_without_the_right_to_mount_the_bytes_are_sent(opened: Opened) -> None:
    for behaviour in ({"mounts": False}, {"auth": "token", "denied": {"repository:team/base:pull"}}):
        with oci_registry.running(**behaviour) as it:
            it.blobs["team/base", BLOB.digest] = DATA
            assert opened(it, also="team/base").push(BLOB, content, "team/base")
            assert it.blobs["team/made", BLOB.digest] == DATA
    with oci_registry.running(statuses={"POST uploads": [(405, {})]}) as it:
        assert opened(it).push(BLOB, content, "team/base")


def test_layers_stream_from_one_registry_to_another(opened: Opened) -> None:
    with oci_registry.running(auth="token") as one, oci_registry.running(auth="basic") as other:
        one.blobs["team/base", BLOB.digest] = DATA
        source = opened(one, "team/base")
        assert opened(other).push(BLOB, lambda: source.open(BLOB))
        assert other.blobs["team/made", BLOB.digest] == DATA


def test_a_blob_that_is_kept_elsewhere_is_fetched_there_without_credentials(opened: Opened) -> None:
    with oci_registry.running() as other, oci_registry.running(auth="token", elsewhere=other.host) as it:
        other.blobs["team/made", BLOB.digest] = it.blobs["team/made", BLOB.digest] = DATA
        with opened(it).open(BLOB) as found:
            assert found.read() == DATA
        assert other.foreign == []


def test_a_lost_connection_is_made_good(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    with oci_registry.running(lost=2) as it:
        assert opened(it).push(BLOB, content)
        assert it.blobs["team/made", BLOB.digest] == DATA
    said = capsys.readouterr().out
    assert said.count("does not answer as it should") == 2
    assert "canary" not in said


def test_a_registry_that_stays_away_is_told_of(opened: Opened) -> None:
    with oci_registry.running(lost=3) as it, pytest.raises(sdk.StepError, match=rf"{it.host} does not answer as it should: the connection"):
        opened(it).push(BLOB, content)
    with pytest.raises(sdk.StepError, match="does not answer as it should: no connection"):
        opened(it).find("1")


def test_a_busy_registry_is_asked_again(opened: Opened) -> None:
    busy = [(503, {}), (429, {"Retry-After": "0"})]
    with oci_registry.running(statuses={"PUT uploads": list(busy), "PUT manifests": list(busy), "GET manifests": list(busy)}) as it:
        target = opened(it)
        assert target.find("1") is None
        target.push(BLOB, content)
        target.push_bytes(CONFIGURATION)
        target.tag("1", image())
        assert it.tags("team/made") == ["1"]


def test_a_token_that_has_expired_is_asked_for_again(opened: Opened) -> None:
    with oci_registry.running(auth="token") as it:
        target = opened(it)
        target.push(BLOB, content)
        it.tokens.clear()
        target.push_bytes(CONFIGURATION)
        it.tokens.clear()
        target.tag("1", image())
        assert it.tags("team/made") == ["1"]


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("account", [None, references.Account("eve", "canary-wrong")])
def test_who_may_not_push_is_told_so_and_no_secret(opened: Opened, auth: str, account: references.Account | None) -> None:
    with oci_registry.running(auth=auth) as it, pytest.raises(sdk.StepError) as caught:
        opened(it, account=account).push(BLOB, content)
    assert it.host in str(caught.value)
    assert "'eve'" in str(caught.value) if account else "without an account" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_refusal_is_told_in_the_registrys_words(opened: Opened) -> None:
    with oci_registry.running(statuses={"POST uploads": [(403, {})]}) as it, pytest.raises(access.Refused) as caught:
        opened(it).push(BLOB, content)
    assert str(caught.value).startswith(f"the registry {it.host} does not take an image for {it.host}/team/made: 403 DENIED: not now")
    assert "link a Secret" in str(caught.value)


def test_content_that_is_not_what_it_should_be_is_taken_by_nobody(opened: Opened) -> None:
    with oci_registry.running() as it:
        wrong = layers.Blob(layers.digest(b"other"), BLOB.size)
        with pytest.raises(access.Refused, match="DIGEST_INVALID"):
            opened(it).push(wrong, content)
        it.blobs["team/made", wrong.digest] = DATA
        with pytest.raises(access.Refused, match="gave another blob"):
            opened(it).document(wrong)
        it.manifests["team/made", wrong.digest] = (layers.OCI_MANIFEST, b"{}")
        with pytest.raises(access.Refused, match="gave another manifest"):
            opened(it).manifest(wrong.digest)


def test_an_image_without_its_layers_is_refused(opened: Opened) -> None:
    with oci_registry.running() as it:
        with pytest.raises(access.Refused, match="400 MANIFEST_BLOB_UNKNOWN"):
            opened(it).tag("1", image())
        assert it.tags("team/made") == []


def test_passwords_are_not_shown_to_a_token_service_that_can_be_listened_to() -> None:
    shown = access.Access(urllib3.PoolManager(), "https://registry.example.com", ACCOUNT, [])
    with pytest.raises(access.Refused, match="names no token service that can be asked over https"):
        shown.take_up(['Bearer realm="http://tokens.example.com/token",service="registry"'])
    assert shown.header is None


def test_an_identity_token_is_changed_for_one_that_the_registry_takes(opened: Opened) -> None:
    with oci_registry.running(auth="token") as it:
        assert opened(it, account=references.Account("<token>", identity=oci_registry.PASSWORD)).push(BLOB, content)
        with pytest.raises(access.Refused, match="refuses the account 'eve': 401 UNAUTHORIZED"):
            opened(it, account=references.Account("eve", identity="canary")).push(BLOB, content)


def test_what_is_no_registry_is_told(opened: Opened) -> None:
    with oci_registry.running() as it:
        it.manifests["team/made", "1"] = (layers.OCI_MANIFEST, b"<html>a page of a proxy</html>")
        with pytest.raises(access.Refused, match=r"than what describes an image: is it a registry\?"):
            opened(it).manifest("1")
