"""Copies of origins at the level of git: equal refs after each synchronisation, whatever happened at the origin, and at any interruption."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, origins
from fuseml.githosts.origins import copying
from fuseml.githosts.snapshots import Account
from tests.component import githost
from tests.component.githost import PASSWORD, SECRET, Clone, Server, git
from tests.contract import origin_hosts
from tests.waiting import PATIENCE

server = githost.server


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[origin_hosts.ContractServer]:
    (tmp_path / "origin").mkdir()
    with origin_hosts.contract_server(tmp_path / "origin", "github") as server:
        yield server


@pytest.fixture
def work(origin: origin_hosts.ContractServer, tmp_path: Path) -> Clone:
    return Clone.fresh(origin.push_url(), tmp_path / "work", branch="trunk")


def synchronise(
    origin: origin_hosts.ContractServer, server: Server, *, size: int = copying.MOST_BYTES, most_refs: int = 100
) -> copying.Outcome:
    copy = copying.Place(f"http://127.0.0.1:{server.port}/git/workspace/mnist.git", Account("ada", PASSWORD))
    return copying.copy(_place(origin), copy, seconds=PATIENCE, size=size, most_refs=most_refs)


def _place(origin: origin_hosts.ContractServer, token: str = origin_hosts.READER) -> copying.Place:
    return copying.Place(f"{origin.url}/{origin_hosts.OWNER}/{origin_hosts.NAME}.git", Account("", token))


def refs(url: str) -> dict[str, str]:
    lines = git("ls-remote", url).splitlines()
    return {ref: value for value, ref in (line.split("\t") for line in lines) if ref.startswith("refs/")}


def expect_equal(origin: origin_hosts.ContractServer, server: Server) -> None:
    assert refs(server.url()) == refs(origin.push_url())


def test_a_repository_is_imported_with_its_default_branch(
    origin: origin_hosts.ContractServer, server: Server, work: Clone, tmp_path: Path
) -> None:
    first = work.commit("first", {"train.py": "print(1)\n", "data/rows.csv": "1,2\n"})
    work.git("tag", "v1")
    work.git("tag", "-a", "v1.0", "-m", "annotated")
    work.git("branch", "other")
    work.git("push", "--quiet", "origin", "trunk")
    work.git("push", "--quiet", "origin", "--all")
    work.git("push", "--quiet", "origin", "--tags")
    outcome = synchronise(origin, server)
    assert {item.ref for item in outcome.moved} == {"refs/heads/trunk", "refs/heads/other", "refs/tags/v1", "refs/tags/v1.0"}
    expect_equal(origin, server)
    clone = Clone.of(server.url(), tmp_path / "clone")
    assert clone.git("rev-parse", "--abbrev-ref", "HEAD") == "trunk"
    assert clone.git("rev-parse", "HEAD") == first
    # Each move is a push with its webhook, as from a person.
    pushed = [body["ref"] for event, body in server.new_deliveries() if event == "push"]
    assert sorted(pushed) == ["refs/heads/other", "refs/heads/trunk", "refs/tags/v1", "refs/tags/v1.0"]
    assert synchronise(origin, server) == copying.Outcome([], {})
    assert not server.new_deliveries()


def test_commits_force_pushes_and_deletions_follow(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    for number in range(3):
        work.commit(f"commit {number}", {"train.py": f"print({number})\n"})
    work.git("branch", "other")
    work.git("push", "--quiet", "origin", "trunk", "other")
    synchronise(origin, server)
    server.new_deliveries()

    work.git("reset", "--hard", "--quiet", "HEAD~2")
    work.commit("another way", {"train.py": "print(9)\n"})
    work.git("push", "--quiet", "--force", "origin", "trunk")
    work.git("push", "--quiet", "origin", ":other", "HEAD~1:refs/heads/older")
    outcome = synchronise(origin, server)
    assert {(item.ref, item.after is None) for item in outcome.moved} == {
        ("refs/heads/trunk", False),
        ("refs/heads/older", False),
        ("refs/heads/other", True),
    }
    expect_equal(origin, server)
    assert {body["ref"] for event, body in server.new_deliveries() if event == "push"} == {"refs/heads/trunk", "refs/heads/older"}


def test_a_commit_of_someone_else_in_the_copy_is_overwritten(
    origin: origin_hosts.ContractServer, server: Server, work: Clone, tmp_path: Path
) -> None:
    work.commit("first", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    synchronise(origin, server)
    clone = Clone.of(server.url(), tmp_path / "clone")
    clone.commit("not at the origin", {"train.py": "print(2)\n"})
    clone.git("push", "--quiet")
    synchronise(origin, server)
    expect_equal(origin, server)


def test_the_default_branch_of_the_copy_stays(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    work.commit("first", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    synchronise(origin, server)
    # As a host renames its default branch.
    with origin.repositories.open(origin_hosts.OWNER, origin_hosts.NAME) as repository:
        from dulwich.refs import Ref

        repository.refs[Ref(b"refs/heads/main")] = repository.refs[Ref(b"refs/heads/trunk")]
        repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(b"refs/heads/main"))
        del repository.refs[Ref(b"refs/heads/trunk")]
    outcome = synchronise(origin, server)
    assert outcome.kept == "refs/heads/trunk"
    assert set(refs(server.url())) == {"refs/heads/main", "refs/heads/trunk"}


def test_an_origin_without_branches_takes_nothing_away(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    work.commit("first", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    synchronise(origin, server)
    before = refs(server.url())
    origin.repositories.delete_repository(origin_hosts.OWNER, origin_hosts.NAME)
    with pytest.raises(errors.TemporaryError, match="no git repository"):
        synchronise(origin, server)
    origin.repositories.create_repository(origin_hosts.OWNER, origin_hosts.NAME)
    assert not synchronise(origin, server).moved
    assert refs(server.url()) == before


def test_only_what_is_new_is_sent(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    noise = random.Random(1).randbytes(1 << 20)
    (work.folder / "large.bin").write_bytes(noise)
    work.commit("large")
    work.git("push", "--quiet", "origin", "trunk")
    with pytest.raises(errors.TooLargeError, match=r"more than 512\.0 KiB"):
        synchronise(origin, server, size=512 << 10)
    assert refs(server.url()) == {}
    synchronise(origin, server)
    work.commit("small", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    synchronise(origin, server, size=64 << 10)
    expect_equal(origin, server)


def test_a_private_origin_needs_its_account(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    work.commit("first")
    work.git("push", "--quiet", "origin", "trunk")
    copy = copying.Place(f"http://127.0.0.1:{server.port}/git/workspace/mnist.git", Account("ada", PASSWORD))
    for token in ("", "wrong"):
        with pytest.raises(errors.TemporaryError, match="refuses the credentials") as raised:
            copying.copy(_place(origin, token), copy, seconds=PATIENCE)
        assert "wrong" not in raised.value.message
    with pytest.raises(errors.TemporaryError, match="refuses the credentials"):
        copying.copy(_place(origin), copying.Place(copy.url, Account("ada", "wrong")), seconds=PATIENCE)
    assert SECRET not in repr(copy) and PASSWORD not in repr(copy)


def test_objects_that_the_copy_refuses_move_nothing(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    import dataclasses

    (work.folder / "large.bin").write_bytes(random.Random(1).randbytes(1 << 20))
    work.commit("large")
    work.git("push", "--quiet", "origin", "trunk")
    server.host.limits = dataclasses.replace(server.host.limits, object=1 << 18)
    with pytest.raises(errors.PermanentError, match="refuses the objects"):
        synchronise(origin, server)
    assert refs(server.url()) == {}


def test_many_refs_take_several_pushes(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    work.commit("first")
    work.git("push", "--quiet", "origin", "trunk")
    with origin.repositories.open(origin_hosts.OWNER, origin_hosts.NAME) as repository:
        from dulwich.refs import Ref

        head = repository.refs[Ref(b"refs/heads/trunk")]
        for number in range(7):
            repository.refs[Ref(f"refs/tags/v{number}".encode())] = head
    assert len(synchronise(origin, server, most_refs=3).moved) == 8
    expect_equal(origin, server)


def test_the_time_of_a_synchronisation_is_bounded(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    work.commit("first")
    work.git("push", "--quiet", "origin", "trunk")
    copy = copying.Place(f"http://127.0.0.1:{server.port}/git/workspace/mnist.git", Account("ada", PASSWORD))
    with pytest.raises(errors.TemporaryError, match="took"):
        copying.copy(_place(origin), copy, seconds=0.0)


def advertisement(refs: dict[bytes, str]) -> bytes:
    lines = [f"{value} ".encode() + name for name, value in refs.items()]
    lines[0] += b"\0multi_ack side-band-64k ofs-delta agent=git/2"
    packets = [b"%04x" % (len(line) + 5) + line + b"\n" for line in lines]
    return b"001e# service=git-upload-pack\n0000" + b"".join(packets) + b"0000"


def test_only_refs_by_the_rules_of_git_are_followed(origin: origin_hosts.ContractServer, server: Server, work: Clone) -> None:
    head = work.commit("first", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    odd = [b"refs/heads/a\0atomic", b"refs/heads/\xff", b"refs/tags/a..b", b"refs/tags/a\x1b[2J", b"refs/tags/" + b"x" * 65_400]
    origin.advertised = advertisement({b"refs/heads/trunk": head, **dict.fromkeys(odd, head)})
    outcome = synchronise(origin, server)
    assert [item.ref for item in outcome.moved] == ["refs/heads/trunk"]
    assert len(outcome.refused) == len(odd)
    assert all(name.isprintable() and len(name) <= 200 for name in outcome.refused)
    assert refs(server.url()) == {"refs/heads/trunk": head}
    origin.advertised = advertisement({b"refs/heads/trunk": "0" * 20 + "z" * 20})
    with pytest.raises(errors.TemporaryError, match="SHA-1"):
        synchronise(origin, server)


def test_of_two_synchronisations_at_once_none_reports_the_moves_of_the_other(
    origin: origin_hosts.ContractServer, server: Server, work: Clone
) -> None:
    work.commit("first", {"train.py": "print(1)\n"})
    work.git("push", "--quiet", "origin", "trunk")
    others = list[copying.Outcome]()

    def follow(address: str) -> None:
        if address.endswith("git-upload-pack") and not others:
            others.append(copying.Outcome([], {}))
            others.append(synchronise(origin, server))

    origin.before = follow
    assert synchronise(origin, server) == copying.Outcome([], {})
    assert [item.ref for item in others[-1].moved] == ["refs/heads/trunk"]
    expect_equal(origin, server)


REFS = st.dictionaries(
    st.sampled_from(["refs/heads/main", "refs/heads/x", "refs/tags/v1", "refs/tags/v1^{}", "refs/pull/1/head", "HEAD"]),
    st.sampled_from(["a" * 40, "b" * 40, "c" * 40]),
)


@given(REFS, REFS)
def test_the_changes_make_the_copy_equal(origin: dict[str, str], copy: dict[str, str]) -> None:
    changes = origins.changes(origin, copy)
    after: dict[str, str | None] = dict(copy)
    for change in changes:
        assert after.get(change.ref) == change.before != change.after
        after[change.ref] = change.after

    def followed(refs: dict[str, str]) -> dict[str, str]:
        return {ref: value for ref, value in refs.items() if ref.startswith(("refs/heads/", "refs/tags/")) and not ref.endswith("^{}")}

    present = followed({ref: value for ref, value in after.items() if value})
    has_branch = any(ref.startswith("refs/heads/") for ref in origin)
    assert present == (followed(origin) if has_branch else {**followed(copy), **followed(origin)})
    assert origins.changes(origin, {ref: value for ref, value in after.items() if value}) == []
    # Refs of pull requests, and everything that is no branch or tag, stay as they are.
    assert {ref: value for ref, value in after.items() if ref.startswith("refs/pull/")} == {
        ref: value for ref, value in copy.items() if ref.startswith("refs/pull/")
    }
