"""Contract of artifact stores: one suite for all of them. A capability that a store does not declare skips its tests, and is refused."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Capability, Place, git
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address
from tests import waiting
from tests.contract import artifact_stores
from tests.contract.artifact_stores import PROJECT, SECRET, UnderTest

_NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=artifact_stores.STORES)
def under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    with artifact_stores.STORES[request.param](tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def store(under_test: UnderTest) -> artifactstores.ArtifactStore:
    return under_test.store


@pytest.fixture
def name(under_test: UnderTest) -> str:
    """A name that no other test uses."""
    return f"name-{next(_NUMBERS)}{under_test.below}"


def needs(store: artifactstores.ArtifactStore, capability: Capability) -> None:
    if capability not in store.capabilities:
        pytest.skip(f"this store declares no {capability!r}")


def unknown(under_test: UnderTest, name: str, known: Address | None = None) -> Address:
    """An address that the store does not have; of a known one, with another digit."""
    if known is None:
        known = under_test.publish(name, {"data.csv": b"1\n"})
    digits = ("1" if known.version[0] == "0" else "0") + known.version[1:]
    if known.version.startswith("sha256:"):
        digits = known.version[:-1] + ("1" if known.version[-1] == "0" else "0")
    return Address(known.kind, known.project, known.name, "999" if known.version.isdigit() else digits)


def every(store: artifactstores.ArtifactStore, kind: str, name: str, limit: int) -> list[Address]:
    found, after = [], ""
    while True:
        page = store.versions(kind, PROJECT, name, after, limit)
        assert len(page.versions) <= limit
        found += [version.address for version in page.versions]
        if not page.after:
            return found
        after = page.after


def next_moment(under_test: UnderTest) -> None:
    """Wait until the store gives the next version a later time."""
    published = time.time()
    waiting.wait_until(lambda: time.time() // under_test.moment > published // under_test.moment, "the next moment")


def documented() -> Mapping[str, list[str]]:
    """Resource -> cells of its row in the page about artifact stores."""
    page = (Path(__file__).parents[2] / "docs" / "artifact-stores.md").read_text()
    table = page.partition("<!-- stores:")[2].partition("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == ["resource", "kinds", *artifactstores.CAPABILITIES]
    return {cells[0].strip("`"): cells[1:] for cells in rows[2:]}


def test_the_page_has_a_row_for_each_store() -> None:
    assert sorted(documented()) == sorted([*artifactstores.CONNECTORS, git.EMBEDDED])


def test_the_page_shows_what_the_store_declares(store: artifactstores.ArtifactStore) -> None:
    if store.resource not in documented():
        pytest.skip("the page has the built-in stores only")
    if store.resource not in artifactstores.CONNECTORS:
        pytest.skip("the page lists the built-in stores")
    capabilities = ["yes" if capability in store.capabilities else "" for capability in artifactstores.CAPABILITIES]
    kinds = "all" if store.kinds == frozenset(artifact.KINDS) else ", ".join(sorted(store.kinds))
    assert documented()[store.resource] == [kinds, *capabilities]


def test_a_published_version_is_described_and_located(under_test: UnderTest, name: str) -> None:
    before = time.time()
    address = under_test.publish(name, {"data.csv": b"a,b\n1,2\n", "more/empty.txt": b""})
    assert (address.kind, address.project, address.name) == (under_test.kind, PROJECT, name)
    described = under_test.store.describe(address)
    assert described.address == address
    # Some tools count in seconds.
    assert before * 1000 - 2000 <= described.created <= time.time() * 1000 + 2000
    location = under_test.store.locate(address)
    assert urlsplit(location.uri).scheme
    assert (location.digest, location.size) == (described.digest, described.size)
    assert SECRET not in repr([location, described, under_test.store])


def test_a_description_never_changes(under_test: UnderTest, name: str) -> None:
    address = under_test.publish(name, {"data.csv": b"1\n"})
    first = under_test.store.describe(address)
    under_test.publish(name, {"data.csv": b"2\n"})
    assert under_test.store.describe(address) == first


def test_versions_are_listed_by_pages_and_the_oldest_first(under_test: UnderTest, name: str) -> None:
    published = []
    for number in range(5):
        published.append(under_test.publish(name, {"data.csv": b"%d\n" % number}))
        next_moment(under_test)
    assert len(set(published)) == 5
    for limit in (1, 2, 5, 100):
        assert every(under_test.store, under_test.kind, name, limit) == published
    versions = under_test.store.versions(under_test.kind, PROJECT, name).versions
    assert [version.created for version in versions] == [under_test.store.describe(address).created for address in published]
    assert list(under_test.store.versions(under_test.kind, PROJECT, f"{name}-other").versions) == []


def test_an_unknown_version_is_not_found(under_test: UnderTest, name: str) -> None:
    store, address = under_test.store, unknown(under_test, name)
    calls: list[Callable[[], object]] = [lambda: store.describe(address), lambda: store.locate(address), lambda: store.tags(address)]
    if "open" in store.capabilities:
        calls.append(lambda: store.open(address))
    if "tag" in store.capabilities:
        calls.append(lambda: store.tag(address, "best"))
    for call in calls:
        with pytest.raises(errors.NotFoundError):
            call()
    with pytest.raises(errors.NotFoundError):
        store.resolve(address.kind, PROJECT, name, "nothing-has-this-tag")


def test_a_kind_that_the_store_does_not_hold_is_refused(under_test: UnderTest, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: under_test.store.versions("gas", PROJECT, name),
        lambda: under_test.store.place("gas", PROJECT, name),
        lambda: under_test.store.describe(Address("gas", PROJECT, name, "1")),
    ]
    for call in calls:
        with pytest.raises(errors.InvalidError, match="holds no gas"):
            call()


def test_an_undeclared_call_is_refused_with_the_name_of_the_store(under_test: UnderTest, name: str) -> None:
    store, address = under_test.store, Address(under_test.kind, PROJECT, name, "1")
    place = Place(under_test.kind, PROJECT, name, "")
    calls: Mapping[Capability, list[Callable[[], object]]] = {
        "open": [lambda: store.open(address)],
        "write": [lambda: store.write(place, [])],
        "commit": [lambda: store.commit(place, "1")],
        "tag": [lambda: store.tag(address, "best")],
        "untag": [lambda: store.untag(address, "best")],
        "label": [lambda: store.label(address, "team", "red"), lambda: store.unlabel(address, "team")],
        "delete": [lambda: store.delete(address)],
        "page": [lambda: store.page(address)],
        "changes": [store.changes],
    }
    assert calls.keys() == set(artifactstores.CAPABILITIES) >= store.capabilities
    for call in [call for capability in calls.keys() - store.capabilities for call in calls[capability]]:
        with pytest.raises(errors.PermanentError, match=f"the artifact store '{store.resource}' cannot"):
            call()


# open


def test_the_files_of_a_version_are_read_unchanged(under_test: UnderTest, name: str) -> None:
    needs(under_test.store, "open")
    files = {"data.csv": bytes(range(256)) * 5000, "deep/er/one.bin": b"x", "leer.txt": b"", "größe/ß 1.txt": b"\xff"}
    opened = under_test.store.open(under_test.publish(name, files))
    read = {file.path: b"".join(opened.read(file)) for file in opened.files}
    assert {path: data for path, data in read.items() if path in files} == files
    assert all(file.size in (None, len(read[file.path])) for file in opened.files)


def test_a_flipped_bit_is_found_before_the_end(under_test: UnderTest, name: str) -> None:
    needs(under_test.store, "open")
    if under_test.damage is None:
        pytest.skip("this store states no digest of the contents")
    size = 3_000_000
    address = under_test.publish(name, {"data.csv": b"0123456789" * (size // 10)})
    opened, received = under_test.store.open(address), 0
    whole = sum(len(block) for file in opened.files for block in opened.read(file))
    under_test.damage(address)
    opened = under_test.store.open(address)
    # Of a store that knows only the digest of the whole, in the last file.
    with pytest.raises(errors.PermanentError, match=rf"(data\.csv|{re.escape(str(address))}).* is damaged in the store"):
        for file in opened.files:
            for block in opened.read(file):
                received += len(block)
    assert received < whole


# write and commit


def test_written_contents_are_invisible_until_their_commit(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "write")
    place = store.place(under_test.kind, PROJECT, name)
    digest = store.write(place, artifact_stores.sources({"data.csv": b"1\n"}))
    assert list(store.versions(under_test.kind, PROJECT, name).versions) == []
    address = store.commit(place, digest, artifactstores.About(format="csv", metrics={"rows": 1.0}, metadata={"from": "Köln"}))
    assert [version.address for version in store.versions(under_test.kind, PROJECT, name).versions] == [address]
    about = store.describe(address).about
    assert (about.format, about.metrics, about.metadata) == ("csv", {"rows": 1.0}, {"from": "Köln"})


def test_the_same_contents_are_one_version(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "write")
    files = {"b": b"2", "a": b"1"}
    address = under_test.publish(name, files)
    described = store.describe(address)
    place = store.place(under_test.kind, PROJECT, name)
    again = store.write(place, artifact_stores.sources(dict(reversed(files.items()))))
    assert store.commit(place, again, artifactstores.About(format="other")) == address
    assert store.describe(address) == described
    assert [version.address for version in store.versions(under_test.kind, PROJECT, name).versions] == [address]
    assert under_test.publish(name, {"a": b"1", "c": b"2"}) != address != under_test.publish(name, {"a": b"2", "b": b"1"})


def test_contents_that_are_not_written_cannot_be_committed(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "commit")
    with pytest.raises(errors.NotFoundError):
        store.commit(store.place(under_test.kind, PROJECT, name), under_test.unwritten)
    assert every(store, under_test.kind, name, 100) == []


@pytest.mark.parametrize("paths", [["../x"], ["/x"], ["a//b"], ["a/.."], ["a\\b"], ["a\0b"], [""], ["x" * 256], ["a", "a/b"], ["a", "a"]])
def test_a_path_that_no_folder_could_hold_is_refused(under_test: UnderTest, name: str, paths: list[str]) -> None:
    store = under_test.store
    needs(store, "write")
    with pytest.raises(errors.InvalidError):
        store.write(store.place(under_test.kind, PROJECT, name), [artifact_stores.sources({path: b"1"})[0] for path in paths])


@pytest.mark.parametrize("name", ["a/b", "größe/ß", "a b", "-a", "..", "A" * 150, "ü" * 60, "_h"])
def test_names_with_slashes_and_any_characters_are_apart(under_test: UnderTest, name: str) -> None:
    needs(under_test.store, "write")
    published = under_test.publish(name, {"data.csv": name.encode()})
    assert under_test.store.describe(published).address.name == name
    assert [version.address for version in under_test.store.versions(under_test.kind, PROJECT, name).versions] == [published]
    for near in (f"{name}/x", f"{name}x", name.partition("/")[0] + "_2f"):
        assert list(under_test.store.versions(under_test.kind, PROJECT, near).versions) == []


# tag


def test_a_tag_names_one_version_and_moves(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "tag")
    first, second = under_test.publish(name, {"data.csv": b"1\n"}), under_test.publish(name, {"data.csv": b"2\n"})
    store.tag(first, "best")
    store.tag(first, "Release-1.0_x" if under_test.kind != "model" else "Release-1_x")
    store.tag(first, "best")
    assert (store.resolve(under_test.kind, PROJECT, name, "best"), "best" in store.tags(first)) == (first, True)
    store.tag(second, "best")
    assert (store.resolve(under_test.kind, PROJECT, name, "best"), "best" in store.tags(first)) == (second, False)


def test_a_tag_is_removed_from_the_version_that_has_it(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "untag")
    first, second = under_test.publish(name, {"data.csv": b"1\n"}), under_test.publish(name, {"data.csv": b"2\n"})
    store.tag(second, "best")
    store.untag(first, "best")
    assert "best" in store.tags(second), "another version has it"
    store.untag(second, "best")
    store.untag(second, "best")
    assert "best" not in store.tags(second)
    with pytest.raises(errors.NotFoundError):
        store.resolve(under_test.kind, PROJECT, name, "best")


def test_a_tag_that_the_tool_set_is_read(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    first, second = under_test.publish(name, {"data.csv": b"1\n"}), under_test.publish(name, {"data.csv": b"2\n"})
    (under_test.tag or store.tag)(first, "best")
    assert store.resolve(under_test.kind, PROJECT, name, "best") == first
    assert ("best" in store.tags(first), "best" in store.tags(second)) == (True, False)


@pytest.mark.parametrize("tag", ["", "-a", "a/b", "a b", "ä", "x" * 101, "a\n"])
def test_an_invalid_tag_is_refused(under_test: UnderTest, name: str, tag: str) -> None:
    needs(under_test.store, "tag")
    address = under_test.publish(name, {"data.csv": b"1\n"})
    with pytest.raises(errors.InvalidError, match="is not a tag"):
        under_test.store.tag(address, tag)


# label, delete, page, changes


def test_labels_are_set_and_removed(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "label")
    address = under_test.publish(name, {"data.csv": b"1\n"})
    store.label(address, "team", "red")
    store.label(address, "team", "größer")
    assert store.describe(address).labels["team"] == "größer"
    store.unlabel(address, "team")
    store.unlabel(address, "team")
    assert "team" not in store.describe(address).labels


def test_a_deleted_version_is_gone_with_its_tags(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "delete")
    first, second = under_test.publish(name, {"data.csv": b"1\n"}), under_test.publish(name, {"data.csv": b"2\n"})
    if "tag" in store.capabilities:
        store.tag(first, "best")
    store.delete(first)
    store.delete(first)
    assert every(store, under_test.kind, name, 100) == [second]
    with pytest.raises(errors.NotFoundError):
        store.describe(first)
    with pytest.raises(errors.NotFoundError):
        store.resolve(under_test.kind, PROJECT, name, "best")


def test_the_page_of_a_version_is_a_url_of_the_tool(under_test: UnderTest, name: str) -> None:
    needs(under_test.store, "page")
    url = under_test.store.page(under_test.publish(name, {"data.csv": b"1\n"}))
    assert urlsplit(url).scheme in ("http", "https")
    # A git host shows private code to accounts only.
    assert under_test.kind == "code" or waiting.answers(url.partition("#")[0])


def test_changes_are_reported_from_a_position_on(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    needs(store, "changes")
    position = store.changes().position
    first = under_test.publish(name, {"data.csv": b"1\n"})
    changes = store.changes(position)
    assert first in changes.addresses
    second = under_test.publish(name, {"data.csv": b"2\n"})
    assert second in store.changes(changes.position).addresses


# PushedStore


def test_a_push_brings_the_versions_that_it_has_changed(under_test: UnderTest, name: str) -> None:
    store = under_test.store
    assert isinstance(store, artifactstores.PushedStore) == (store.resource in artifactstores.PUSHED)
    if not isinstance(store, artifactstores.PushedStore):
        pytest.skip("the versions of this store do not come with pushes")
    codeset = name.partition("/")[0]
    addresses = [under_test.publish(name, {"data.csv": text}) for text in (b"1\n", b"2\n")]
    descriptions = [under_test.store.describe(address) for address in addresses]
    first, second = (description.about.metadata["commit"] for description in descriptions)
    [brought] = store.pushed(PROJECT, codeset, second, first).versions
    assert (brought.description, brought.uri, brought.commit) == (descriptions[1], under_test.store.locate(addresses[1]).uri, second)
    assert store.pushed(PROJECT, codeset, second, second).versions == []
    assert [item.description for item in store.pushed(PROJECT, codeset, first).versions] == descriptions[:1]
    earlier = list(store.earlier(PROJECT, codeset, second))
    assert [item.description for _, item in earlier] == descriptions
    assert [item for _, item in store.earlier(PROJECT, codeset, second, earlier[0][0])] == [earlier[1][1]]
    with pytest.raises(errors.NotFoundError):
        store.pushed(PROJECT, codeset, "0" * 40)
