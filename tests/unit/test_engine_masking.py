"""Masking of secrets, independent of block boundaries."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
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


# Characters that spellings change, and those that begin an escape or look like one.
characters = st.sampled_from(" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\täöß€漢😀") | st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]
)
passwords = st.text(st.sampled_from("abcxyzABCnu0129") | characters, min_size=8, max_size=40).map(
    lambda text: "".join(text.split("\x85")).strip()
)
secret_lines = passwords.filter(lambda text: len(text) >= masking.SHORTEST and len(text.splitlines()) == 1 and "<hidden>" not in text)


def selected(text: str, change: Callable[[str], str]) -> str:
    """The text with every second character changed."""
    return "".join(change(character) if index % 2 else character for index, character in enumerate(text))


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def reserved(text: str) -> str:
    """As URLs are written by hand: only what would end the value is escaped."""
    return "".join(percent(character).upper() if character in "%&=+#?/@: " else character for character in text)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with Unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON of Go": lambda text: json.dumps(text)[1:-1].replace("<", "\\u003c").replace(">", "\\u003E").replace("&", "\\u0026"),
    "JSON, some characters": lambda text: (
        selected(text, lambda character: json.dumps(character)[1:-1]) if not {'"', "\\"} & set(text) else text
    ),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"key": text})),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps([text]))),
    "a line of a document in JSON": lambda text: json.dumps(f"[default]\npassword = {text}\nregion = eu\n"),
    "repr": repr,
    "repr in a document": lambda text: repr({"environment": {"PASSWORD": text}}),
    "repr of bytes": lambda text: repr(text.encode()),
    "URL": urllib.parse.quote,
    "URL without exceptions": lambda text: urllib.parse.quote(text, safe=""),
    "URL in lower case": lambda text: re.sub("%..", lambda match: match[0].lower(), urllib.parse.quote(text, safe="")),
    "form": urllib.parse.quote_plus,
    "query": lambda text: urllib.parse.urlencode({"password": text}),
    "query of a URL in a query": lambda text: urllib.parse.urlencode({"next": "/?" + urllib.parse.urlencode({"password": text})}),
    "URL, every character": percent,
    "URL, reserved characters": reserved,
    "URL in JSON": lambda text: json.dumps("https://ada:" + urllib.parse.quote(text, safe="") + "@git.example.org/"),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML with decimal references": lambda text: html.escape(text).replace("&#x27;", "&#039;").replace("&quot;", "&#34;"),
    "HTML, every character": lambda text: "".join(f"&#x{ord(character):X};" for character in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in upper case": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("name", SPELLINGS)
@settings(max_examples=40)
@given(secret=secret_lines, cuts=st.lists(st.integers(1, 300)))
def test_no_usual_spelling_of_a_secret_remains(name: str, secret: str, cuts: list[int]) -> None:
    spelled = SPELLINGS[name](secret)
    data = f"see: {spelled} .\n".encode()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    output = b"".join(masking.Mask([secret]).stream([data[start:end] for start, end in itertools.pairwise(borders)], final=True))
    assert b"<hidden>" in output
    assert masking.Mask([secret]).found_in(data)
    # What surrounds the secret in the spelling remains, the secret itself has gone.
    other = f"see: {SPELLINGS[name]('~' * 9)} .\n".encode()
    assert len(output) <= len(other.replace(percent("~" * 9).encode(), b"~" * 9)) + len(b"<hidden>")
    assert output.startswith(b"see: ")
    assert output.endswith(b" .\n")


@given(
    secret=secret_lines, before=st.binary(max_size=7), after=st.binary(max_size=7), form=st.sampled_from(["standard", "urlsafe", "wrapped"])
)
def test_base64_is_masked_at_every_alignment(secret: str, before: bytes, after: bytes, form: str) -> None:
    content = before + secret.encode() + after
    encoded = {"standard": base64.standard_b64encode, "urlsafe": base64.urlsafe_b64encode, "wrapped": base64.encodebytes}[form](content)
    output = masking.Mask([secret]).text(f"see: {encoded.decode()}")
    # The characters around it that it shares with its neighbours remain.
    assert "<hidden>" in output
    assert len(output) <= len("see: <hidden>\n\n") + 3 + -(-len(before) * 4 // 3) + -(-len(after) * 4 // 3) + 3


def test_base64_over_several_lines_is_masked_as_a_whole() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(
        ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDu"]
    )
    for line_end in ("\n", "\r\n"):
        encoded = base64.encodebytes(f"{{'key': {key!r}}}\n{key}\nend".encode()).decode().replace("\n", line_end)
        once = masked(encoded, [key]).decode()
        assert len(once.replace("<hidden>", "")) < len(encoded) - 0.8 * len(base64.b64encode(key.encode())) * 2
        for size in (1, 7, 61):
            blocks = [encoded.encode()[start : start + size] for start in range(0, len(encoded), size)]
            assert b"".join(masking.Mask([key]).stream(blocks, final=True)).decode() == once


@given(
    secret_lines, st.text(st.sampled_from("%&\\u0041;#x26 ab\n"), max_size=12), st.text(st.sampled_from("%&\\u0041;#x26 ab\n"), max_size=12)
)
def test_a_secret_as_it_is_never_hides_behind_an_escape_next_to_it(secret: str, before: str, after: str) -> None:
    output = masking.Mask([secret]).text(f"{before}{secret}{after}")
    assert secret not in output.replace("<hidden>", "\n")


@given(
    st.lists(
        st.sampled_from([b"%", b"25", b"2f", b"\\", b"u00", b"41", b"&", b"#x41;", b"amp;", b"abc", b"<hid", b"den>", b"\n", b"QUJD" * 16]),
        max_size=14,
    ),
    st.lists(st.integers(0, 90)),
)
def test_escapes_do_not_make_the_stream_depend_on_block_boundaries(parts: list[bytes], cuts: list[int]) -> None:
    mask, data = masking.Mask(["A/bcabc", "abcA%2f", "&Abc\\A", "ABCABCABC" * 8]), b"".join(parts)
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in itertools.pairwise(borders)]
    assert b"".join(mask.stream(blocks, final=True)) == b"".join(mask.stream([data], final=True))


@pytest.mark.parametrize(
    ("secret", "printed"),
    [
        ("postgresql://ada:pa55%40word@db/alpha", "the password is pa55@word"),
        ("postgresql://ada:pa55%40word@db/alpha", "the password is pa55%40word"),
        ("https://ada:pa55word@git.example.org", "the password is pa55word"),
        (r"first-line\nsecond-line", "first-line\nsecond-line"),
        ("pa55&amp;word", "pa55&word"),
    ],
)
def test_what_a_secret_says_is_masked_too(secret: str, printed: str) -> None:
    remaining = masking.Mask([secret]).text(printed)
    assert set(remaining.replace("the password is ", "").split()) == {"<hidden>"}


def test_little_is_held_back_however_long_a_secret_is() -> None:
    secret = "".join(random.Random(3).choices("abcdefghijklmnopqrstuvwxyz", k=65_536))
    mask = masking.Mask([secret])
    given, shown = 0, 0
    for block in mask.stream((secret.encode()[start : start + 100] for start in range(0, 65_536, 100)), final=False):
        given, shown = given + 100, shown + len(block) // len("<hidden>") * 128
        assert given - shown < 400
    assert masked(f"{secret} {base64.b64encode(secret.encode()).decode()}", [secret]).replace(b"<hidden>", b"") == b" "


def test_an_end_of_line_is_not_held_back() -> None:
    mask = masking.Mask(["canary-4711-abc", "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----"])
    for line in (b"loss: 0.5\n", b"100%\n", b"a & b\n", b"C:\\\n", b"no escape at all\n"):
        assert b"".join(mask.stream([line], final=False)) == line
