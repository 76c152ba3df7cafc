"""Secrets at rest: sealed, rotated, and in files that only their owner reads."""

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
def test_what_was_sealed_is_unsealed(secret: str) -> None:
    ring = secrets.Keyring([OLD])
    sealed = ring.seal(secret)
    assert ring.unseal(sealed) == secret
    assert len(secret) < 4 or secret not in sealed


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    ring = secrets.Keyring([OLD])
    assert ring.seal("canary") != ring.seal("canary")


def test_keys_are_rotated_by_putting_a_new_one_in_front() -> None:
    sealed = secrets.Keyring([OLD]).seal("canary")
    both = secrets.Keyring([NEW, OLD])
    assert both.unseal(sealed) == "canary"
    again = both.seal(both.unseal(sealed))
    assert secrets.Keyring([NEW]).unseal(again) == "canary"
    with pytest.raises(errors.PermanentError):
        secrets.Keyring([OLD]).unseal(again)


@pytest.mark.parametrize(
    "sealed", [pytest.param(secrets.Keyring([OLD]).seal("canary"), id="other key"), "", "canary", "gAAAA", "ä", "<hidden>"]
)
def test_what_no_key_fits_is_refused_without_showing_it(sealed: str) -> None:
    with pytest.raises(errors.PermanentError, match="cannot be read with the configured keys; add the key that sealed it") as caught:
        secrets.Keyring([OTHER]).unseal(sealed)
    assert not sealed or sealed not in str(caught.value)


def test_sealed_text_that_was_changed_is_refused() -> None:
    sealed = secrets.Keyring([OLD]).seal("canary")
    changed = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]
    with pytest.raises(errors.PermanentError):
        secrets.Keyring([OLD]).unseal(changed)


def test_derived_tokens_need_no_storage_and_outlive_a_rotation() -> None:
    before, after = secrets.Keyring([OLD]), secrets.Keyring([NEW, OLD])
    assert before.derive("git:demo/diabetes") == after.derive("git:demo/diabetes")
    assert (
        len({before.derive("git:demo/diabetes"), before.derive("git:demo/mnist"), secrets.Keyring([OTHER]).derive("git:demo/mnist")}) == 3
    )


def test_no_key_is_in_any_representation() -> None:
    ring = secrets.Keyring([NEW, OLD])
    shown = repr(ring) + str(ring)
    assert NEW not in shown
    assert OLD not in shown


@pytest.mark.parametrize("keys", [[], ["canary"], [OLD, "canary"], [OLD, "ü" * 44], [OLD[:-2]]])
def test_keys_that_are_none_are_refused_without_showing_them(keys: list[str]) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_SECRET_KEYS") as caught:
        secrets.Keyring(keys)
    assert not any(key in str(caught.value) for key in keys)


def test_texts_are_compared_whatever_they_hold() -> None:
    assert secrets.same("ü", "ü")
    assert not secrets.same("a", "ü")
    assert not secrets.same("", "a")


def test_a_secret_file_is_made_once_and_read_by_its_owner_only(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    assert secrets.read_or_create(path, "first") == "first"
    assert secrets.read_or_create(path, "second") == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "first\n"
    assert [item.name for item in tmp_path.iterdir()] == ["token"]


def test_who_comes_first_wins_and_all_read_the_same(tmp_path: pathlib.Path) -> None:
    for round_ in range(20):
        path = tmp_path / str(round_) / "token"
        path.parent.mkdir()
        with futures.ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda number, path=path: secrets.read_or_create(path, f"secret-{number}"), range(8)))
        assert found == {path.read_text().strip()}
        assert len(list(path.parent.iterdir())) == 1
