"""Secrets at rest: sealing, key rotation, and secret files with owner-only permissions."""

from __future__ import annotations

import pathlib
import stat
from concurrent import futures

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.runtime import secrets

OLD, NEW, OTHER = secrets.new_key(), secrets.new_key(), secrets.new_key()


@given(st.text(st.characters(codec="utf-8")))
def test_a_sealed_secret_can_be_unsealed(secret: str) -> None:
    ring = secrets.Keyring([OLD])
    sealed = ring.seal(secret)
    assert ring.unseal(sealed) == secret
    assert len(secret) < 4 or secret not in sealed


def test_two_seals_of_a_secret_differ() -> None:
    ring = secrets.Keyring([OLD])
    assert ring.seal("canary") != ring.seal("canary")


def test_a_new_first_key_rotates_the_keys() -> None:
    sealed = secrets.Keyring([OLD]).seal("canary")
    both = secrets.Keyring([NEW, OLD])
    assert both.unseal(sealed) == "canary"
    resealed = both.seal(both.unseal(sealed))
    assert secrets.Keyring([NEW]).unseal(resealed) == "canary"
    with pytest.raises(errors.PermanentError):
        secrets.Keyring([OLD]).unseal(resealed)


@pytest.mark.parametrize(
    "sealed", [pytest.param(secrets.Keyring([OLD]).seal("canary"), id="other key"), "", "canary", "gAAAA", "ä", "<hidden>"]
)
def test_a_secret_without_a_key_is_refused_without_quoting_it(sealed: str) -> None:
    with pytest.raises(errors.PermanentError, match="cannot be read with the configured keys; add the key that sealed it") as caught:
        secrets.Keyring([OTHER]).unseal(sealed)
    assert not sealed or sealed not in str(caught.value)


def test_a_tampered_seal_is_refused() -> None:
    sealed = secrets.Keyring([OLD]).seal("canary")
    changed = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]
    with pytest.raises(errors.PermanentError):
        secrets.Keyring([OLD]).unseal(changed)


def test_derived_tokens_survive_a_rotation() -> None:
    before, after = secrets.Keyring([OLD]), secrets.Keyring([NEW, OLD])
    assert before.derive("git:demo/diabetes") == after.derive("git:demo/diabetes")
    assert (
        len({before.derive("git:demo/diabetes"), before.derive("git:demo/mnist"), secrets.Keyring([OTHER]).derive("git:demo/mnist")}) == 3
    )


def test_representations_hold_no_keys() -> None:
    ring = secrets.Keyring([NEW, OLD])
    text = repr(ring) + str(ring)
    assert NEW not in text
    assert OLD not in text


@pytest.mark.parametrize("keys", [[], ["canary"], [OLD, "canary"], [OLD, "ü" * 44], [OLD[:-2]]])
def test_invalid_keys_are_refused_without_quoting_them(keys: list[str]) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_SECRET_KEYS") as caught:
        secrets.Keyring(keys)
    assert not any(key in str(caught.value) for key in keys)


def test_any_texts_can_be_compared() -> None:
    assert secrets.same("ü", "ü")
    assert not secrets.same("a", "ü")
    assert not secrets.same("", "a")


def test_a_secret_file_is_created_once_and_readable_by_its_owner_only(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    assert secrets.read_or_create(path, "first") == "first"
    assert secrets.read_or_create(path, "second") == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "first\n"
    assert [item.name for item in tmp_path.iterdir()] == ["token"]


def test_concurrent_creators_read_the_same_secret(tmp_path: pathlib.Path) -> None:
    for round_ in range(20):
        path = tmp_path / str(round_) / "token"
        path.parent.mkdir()
        with futures.ThreadPoolExecutor(8) as pool:
            values = set(pool.map(lambda number, path=path: secrets.read_or_create(path, f"secret-{number}"), range(8)))
        assert values == {path.read_text().strip()}
        assert len(list(path.parent.iterdir())) == 1
