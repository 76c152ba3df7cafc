"""Uploads to a bucket beside the deletion of the contents that they reuse, in every interleaving with up to two changes between them."""

from __future__ import annotations

import pytest

from fuseml.artifactstores import bucket, leftovers
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from tests.component.interleaved import Stepped
from tests.contract.artifact_stores import PROJECT, sources

FILES = {"a": b"same"}


class Race:
    """A store with an old version, and the two operations on it. `is_deleted`: the version is deleted before."""

    def __init__(self, *, is_deleted: bool) -> None:
        self.contents = Stepped()
        self.store = bucket.BucketStore(self.contents, "memory:")
        self.place = self.store.place("dataset", PROJECT, "iris")
        self.old = self.publish()
        if is_deleted:
            self.store.delete(self.old)
        self.contents.age(2 * leftovers.STALE)

    def publish(self) -> Address:
        return self.store.commit(self.place, self.store.write(self.place, sources(FILES)))

    def remove(self) -> int:
        self.store.delete(self.old)
        return self.store.discard_leftovers()

    def check(self, published: object) -> None:
        """Each visible version has its contents, and a refused upload can be repeated."""
        listed = [version.address for version in self.store.versions("dataset", PROJECT, "iris").versions]
        for address in listed:
            assert self.store.describe(address).size == sum(map(len, FILES.values()))
            opened = self.store.open(address)
            assert {file.path: b"".join(opened.read(file)) for file in opened.files} == FILES
        assert len(listed) <= 1 and published in (None, self.old)
        if published is None:
            assert self.publish() == self.old
            assert [version.address for version in self.store.versions("dataset", PROJECT, "iris").versions] == [self.old]


def length(race: Race, name: str) -> int:
    """The calls of an operation on its own."""
    operation, count = race.contents.begin(getattr(race, name)), 0
    while not operation.is_ended:
        operation.go(1)
        count += 1
    assert operation.error is None
    return count


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("begins", ["publish", "remove"])
def test_no_version_loses_its_contents_to_a_concurrent_removal(is_deleted: bool, begins: str) -> None:
    names = (begins, "remove" if begins == "publish" else "publish")
    # An upload is longest where its version was deleted.
    first, second = (length(Race(is_deleted=name == "publish" or is_deleted), name) for name in names)
    assert first > 5 and second > 5, (first, second)
    refused = 0
    for calls, between in [(calls, between) for calls in range(first) for between in range(1, second + 1)]:
        race = Race(is_deleted=is_deleted)
        one, other = (race.contents.begin(getattr(race, name)) for name in names)
        one.go(calls)
        other.go(between)
        one.go()
        other.go()
        publish, remove = (one, other) if begins == "publish" else (other, one)
        assert remove.error is None
        # The upload can be repeated; a manifest that went between its writing and its commit is unknown.
        assert publish.error is None or isinstance(publish.error, (errors.TemporaryError, errors.NotFoundError))
        refused += publish.error is not None
        race.check(publish.result)
    assert refused, "no interleaving was a race"


def test_a_killed_discard_keeps_uploads_of_its_name_waiting_for_its_lease() -> None:
    race = Race(is_deleted=True)
    stored = race.contents.stored
    killed = race.contents.begin(race.store.discard_leftovers)
    while not (marks := [key for key in stored if "/discards/" in key]):
        killed.go(1)
    with pytest.raises(errors.TemporaryError, match="are being deleted; commit again"):
        race.publish()
    race.contents.age(leftovers.LEASE + 1)
    assert race.publish() == race.old
    race.store.discard_leftovers()
    assert marks[0] not in race.contents.stored
    killed.go()
