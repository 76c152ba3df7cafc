"""Masking of secrets, independent of block boundaries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fuseml.engines import masking

# Secrets that overlap, contain or are a prefix of one another, and the mark itself.
SECRETS = ["abcabc", "abcabcabd", "cabcab", "hidden", "<hidden>x"]
texts = st.lists(st.sampled_from([*SECRETS, "a", "b", "c", "abc", "<hid", "\n", "é"]), max_size=12).map("".join)


def masked(text: str, secrets: Sequence[str] = SECRETS) -> bytes:
    return b"".join(masking.Mask(secrets).stream([text.encode()], final=True))


@given(texts, st.lists(st.integers(0, 80)))
def test_the_masked_stream_does_not_depend_on_block_boundaries(text: str, cuts: list[int]) -> None:
    data = text.encode()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in itertools.pairwise(borders)]
    assert b"".join(masking.Mask(SECRETS).stream(blocks, final=True)) == masked(text)


@given(texts)
def test_no_secret_remains_and_masking_is_idempotent(text: str) -> None:
    once = masked(text).decode()
    assert not any(secret in once.replace("<hidden>", "\n") for secret in SECRETS)
    assert masked(once).decode() == once


@given(texts, texts)
def test_the_masked_output_of_a_growing_log_only_grows(text: str, more: str) -> None:
    output = b"".join(masking.Mask(SECRETS).stream([text.encode()], final=False))
    assert masked(text + more).startswith(output)


def test_short_secrets_are_not_masked_and_lines_of_long_ones_are_masked_separately() -> None:
    secrets = ["true", "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----\n"]
    assert masked("it is true: | MIIabcdef |", secrets) == b"it is true: | <hidden> |"
    assert not masking.Mask(["true", ""])
