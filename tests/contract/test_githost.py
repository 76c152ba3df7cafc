"""The contract of git hosts, for the embedded git host and for Gitea."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuseml.domain import commit_statuses, errors
from fuseml.domain.plans import step_cache
from tests.component.githost import Clone, run_git
from tests.contract import githosts
from tests.contract.githosts import UnderTest

HOSTS: dict[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {
    "embedded": githosts.embedded_host,
    "gitea": githosts.fake_gitea,
    "real gitea": githosts.real_gitea,
}


@pytest.fixture(scope="module", params=list(HOSTS))
def under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    with HOSTS[request.param](tmp_path_factory.mktemp("host")) as host:
        yield host


def work(under_test: UnderTest, codeset: str, folder: Path) -> Clone:
    """A working copy of a new codeset."""
    return Clone.fresh(under_test.register(codeset), folder)


def test_an_empty_repository_has_no_heads_and_creation_is_idempotent(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "again", tmp_path / "work")
    assert under_test.host.heads("demo", "again") == {}
    commit = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    under_test.register("again")
    assert under_test.host.heads("demo", "again") == {"refs/heads/main": commit}


def test_a_repository_begins_with_one_commit_which_is_a_recorded_push(under_test: UnderTest, tmp_path: Path) -> None:
    url = under_test.register("begun")
    begun = under_test.host.begin("demo", "begun", "# begun\n")
    assert begun is not None and (begun.ref, begun.before) == ("refs/heads/main", None)
    assert under_test.host.heads("demo", "begun") == {"refs/heads/main": begun.commit}
    assert under_test.host.read("demo", "begun", begun.commit, "README.md", 100) == b"# begun\n"
    assert under_test.host.pushes("demo", "begun", 0)[1] > 0
    assert under_test.host.begin("demo", "begun", "# again\n") is None
    clone = Clone.of(url, tmp_path / "work")
    clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert under_test.host.begin("demo", "begun", "# again\n") is None
    assert under_test.host.commits("demo", "begun", 0, 1)[0].id == begun.commit
    with pytest.raises(errors.NotFoundError):
        under_test.host.begin("demo", "nothing", "")


def test_heads_map_branches_and_tags_to_their_commits(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "heads", tmp_path / "work")
    first = clone.commit("first", {"a": "1"})
    clone.git("tag", "-a", "v1", "-m", "annotated")
    second = clone.commit("second", {"a": "2"})
    clone.git("tag", "light")
    clone.git("push", "--quiet", "origin", "main", "main~1:refs/heads/old/one", "v1", "light")
    assert under_test.host.heads("demo", "heads") == {
        "refs/heads/main": second,
        "refs/heads/old/one": first,
        "refs/tags/light": second,
        "refs/tags/v1": first,
    }


def test_pushes_after_a_position_are_recorded_one_by_one(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "counted", tmp_path / "work")
    commits = [clone.commit("one", {"a": "1"})]
    clone.git("push", "--quiet", "origin", "main")
    position = under_test.host.pushes("demo", "counted", 0)[1]
    for name in ("two", "three", "four"):
        commits.append(clone.commit(name, {"a": name}))
        clone.git("push", "--quiet", "origin", "main")
    clone.git("push", "--quiet", "origin", "main:refs/heads/other", "main~1:refs/tags/v1")
    clone.git("push", "--quiet", "--force", "origin", "main~2:main")
    recorded: list[tuple[str, str | None, str]] = []
    while True:
        pushes, reached = under_test.host.pushes("demo", "counted", position)
        recorded += [(push.ref, push.before, push.commit) for push in pushes]
        if reached == position:
            break
        position = reached
    assert [move for move in recorded if move[0] == "refs/heads/main"] == [
        *(("refs/heads/main", before, after) for before, after in itertools.pairwise(commits)),
        ("refs/heads/main", commits[3], commits[1]),
    ]
    assert [move for move in recorded if move[0] != "refs/heads/main"] == [
        ("refs/heads/other", None, commits[3]),
        ("refs/tags/v1", None, commits[2]),
    ]


def test_a_host_records_all_pushes_or_none(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "recorded", tmp_path / "work")
    commits = [clone.commit("one", {"a": "1"})]
    clone.git("push", "--quiet", "origin", "main")
    commits.append(clone.commit("two", {"a": "2"}))
    clone.git("push", "--quiet", "origin", "main")
    pushes, position = under_test.host.pushes("demo", "recorded", 0)
    assert [push.commit for push in pushes] in ([], commits)
    assert under_test.host.pushes("demo", "recorded", position) == ((), position) or not list(
        under_test.host.pushes("demo", "recorded", position)[0]
    )


def test_the_password_of_a_codeset_grants_access_to_that_codeset_only(under_test: UnderTest, tmp_path: Path) -> None:
    own = under_test.register("own", password=f"{githosts.PASSWORD}-own")
    under_test.register("other", password=f"{githosts.PASSWORD}-other")
    clone = Clone.fresh(own, tmp_path / "work")
    clone.commit("first", {"a": "1"})
    assert clone.push("origin", "main").returncode == 0
    assert clone.push(own.replace("/own.git", "/other.git"), "main").returncode != 0
    assert clone.push(own.replace(githosts.PASSWORD, "wrong"), "main").returncode != 0
    assert run_git("ls-remote", under_test.host.clone_url("demo", "own")).returncode != 0


def test_a_clone_url_contains_no_credentials(under_test: UnderTest) -> None:
    url = under_test.host.clone_url("demo", "any")
    assert url.endswith("/demo/any.git")
    assert "@" not in url


def test_a_push_is_reported_by_a_signed_webhook(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "reported", tmp_path / "work")
    first = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    (push,) = under_test.pushes("reported", githosts.SECRET, 1)
    assert (push.project, push.codeset, push.ref, push.before, push.commit) == ("demo", "reported", "refs/heads/main", None, first)
    second = clone.commit("second", {"train.py": "print(2)\n", "new/file": "x"})
    clone.git("push", "--quiet", "origin", "main")
    push = under_test.pushes("reported", githosts.SECRET, 2)[-1]
    assert (push.before, push.commit, push.paths, push.message) == (first, second, ("new/file", "train.py"), "second\n")


def test_a_new_secret_signs_later_deliveries_and_each_push_is_delivered_once(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "rotated", tmp_path / "work")
    under_test.register("rotated")
    for _ in range(2):
        under_test.sign("rotated", "another-secret")
    for number in range(3):
        clone.commit(f"number {number}", {"a": str(number)})
        clone.git("push", "--quiet", "origin", "main")
        assert len(under_test.pushes("rotated", "another-secret", number + 1)) == number + 1


def test_an_export_contains_exactly_the_commit(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "exported", tmp_path / "work")
    (clone.folder / "run.sh").write_text("#!/bin/sh\n")
    (clone.folder / "run.sh").chmod(0o755)
    (clone.folder / "link").symlink_to("src/model.py")
    (clone.folder / "submodule").mkdir()
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},submodule")
    # git archive would omit the first file and change the second.
    attributes = "src/secret.py export-ignore\nversion.txt export-subst\n"
    files = {"src/model.py": "pass\n", "src/secret.py": "x", "version.txt": "$Format:%H$\n", ".gitattributes": attributes, "ä ö": "umlaut"}
    unreachable = clone.commit("becomes unreachable", files)
    clone.git("push", "--quiet", "origin", "main")
    clone.git("commit", "--quiet", "--amend", "-m", "rewritten")
    clone.git("push", "--quiet", "--force", "origin", "main")
    out = tmp_path / "out"
    under_test.host.export("demo", "exported", unreachable, out)
    exported = sorted(str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir())
    assert exported == sorted([".fuseml/_org", ".fuseml/_project", "link", "run.sh", *files])
    assert list((out / "submodule").iterdir()) == []
    assert (out / "link").read_text() == "pass\n"
    assert (out / "version.txt").read_text() == "$Format:%H$\n"
    assert [(out / name).stat().st_mode & 0o777 for name in ("run.sh", "version.txt")] == [0o755, 0o644]
    assert [(out / ".fuseml" / name).read_text() for name in ("_org", "_project")] == ["demo", "exported"]


def test_an_export_writes_nothing_outside_its_directory(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "escaping", tmp_path / "work")
    (clone.folder / "up").symlink_to("..")
    (clone.folder / "out").symlink_to("up/../secret")
    commit = clone.commit("links")
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.InvalidError, match="lead out of the codeset"):
        under_test.host.export("demo", "escaping", commit, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]


def test_an_export_requires_a_known_commit_and_an_empty_directory(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "particular", tmp_path / "work")
    commit = clone.commit("first", {"a": "1"})
    clone.git("push", "--quiet", "origin", "main")
    for unknown in ("1" * 40, "main", "../../etc", ""):
        with pytest.raises(errors.NotFoundError):
            under_test.host.export("demo", "particular", unknown, tmp_path / "out")
    with pytest.raises(errors.ConflictError):
        under_test.host.export("demo", "particular", commit, clone.folder)


def test_a_status_is_shown_at_a_commit_where_the_host_has_a_place_for_it(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "shown", tmp_path / "work")
    commit = clone.commit("first")
    clone.git("push", "--quiet", "origin", "main")
    status = commit_statuses.Status("fuseml/demo/train", "failure", "train-1 failed", "https://fuseml.example.com/runs/train-1")
    for _ in range(2):
        under_test.host.set_status("demo", "shown", commit, status)
    if under_test.host.shows_statuses:
        # The real Gitea answers 500.
        with pytest.raises((errors.NotFoundError, errors.TemporaryError)):
            under_test.host.set_status("demo", "shown", "f" * 40, status)
        with pytest.raises(errors.NotFoundError):
            under_test.host.set_status("demo", "missing", commit, status)


def test_changed_paths_are_the_files_that_differ(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "changed", tmp_path / "work")
    before = clone.commit("first", {"kept": "1", "changed": "1", "moved/from": "some text\n", "mode": "x"})
    clone.git("mv", "moved", "elsewhere")
    (clone.folder / "mode").chmod(0o755)
    after = clone.commit("second", {"changed": "2", "new/deep/file": "1"})
    clone.git("push", "--quiet", "origin", "main")
    clone.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    side = clone.commit("on the side", {"side": "1"})
    clone.git("push", "--quiet", "origin", "side")
    different = ["changed", "elsewhere/from", "mode", "moved/from", "new/deep/file"]
    assert under_test.host.changed_paths("demo", "changed", before, after) == different
    assert under_test.host.changed_paths("demo", "changed", after, before) == different
    # Two branches are compared directly, not with their merge base.
    assert under_test.host.changed_paths("demo", "changed", after, side) == sorted([*different, "side"])
    assert under_test.host.changed_paths("demo", "changed", after, after) == []
    assert under_test.host.changed_paths("demo", "changed", "1" * 40, after) is None


def test_a_digest_changes_only_with_the_matched_files(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "watched", tmp_path / "work")
    first = clone.commit("first", {"conda.yaml": "a", "src/deep/model.py": "a", "na\u00efve": "a"})
    code = clone.commit("code", {"src/deep/model.py": "b"})
    (clone.folder / "conda.yaml").chmod(0o755)
    mode = clone.commit("mode")
    clone.git("push", "--quiet", "origin", "main")

    def digests(*paths: str) -> list[str]:
        return [under_test.host.digest("demo", "watched", commit, paths) for commit in (first, code, mode)]

    assert len(set(digests())) == 3
    builder, trainer = digests("conda.yaml", "requirements.txt"), digests("src/**")
    assert (builder[0] == builder[1] != builder[2], trainer[0] != trainer[1] == trainer[2]) == (True, True)
    assert digests("conda.yml") == ["", "", ""]
    # Equal on all hosts: cache keys must stay valid after a change of the host.
    listed = [line.split(maxsplit=3) for line in clone.git("-c", "core.quotepath=off", "ls-tree", "-r", code).splitlines()]
    assert digests()[1] == step_cache.digest([(path, int(mode, 8), sha) for mode, _, sha, path in listed], ())
    with pytest.raises(errors.NotFoundError):
        under_test.host.digest("demo", "watched", "1" * 40, ())


def test_commits_are_listed_from_the_oldest_on_and_described(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "log", tmp_path / "work")
    host = under_test.host
    assert host.commits("demo", "log", 0, 10) == []
    pushed = [clone.commit(f"commit {number}\n\nmore", {"a": str(number)}) for number in range(3)]
    clone.git("push", "--quiet", "origin", "main")
    clone.git("checkout", "--quiet", "-b", "aside")
    aside = clone.commit("aside", {"b": "1"})
    clone.git("push", "--quiet", "origin", "aside")
    listed = host.commits("demo", "log", 0, 10)
    assert [(item.id, item.subject, item.author) for item in listed] == [
        (commit, f"commit {number}", "Ada") for number, commit in enumerate(pushed)
    ]
    for skip, limit in itertools.product(range(5), range(1, 4)):
        assert host.commits("demo", "log", skip, limit) == listed[skip : skip + limit]
    assert [host.commit("demo", "log", commit) for commit in pushed] == listed
    assert listed[0].created == int(clone.git("log", "-1", "--format=%ct", pushed[0]).strip()) * 1000
    assert host.commit("demo", "log", aside).subject == "aside"
    for unknown in ("0" * 40, "main", "", "../x"):
        with pytest.raises(errors.NotFoundError):
            host.commit("demo", "log", unknown)
    with pytest.raises(errors.NotFoundError):
        host.commits("demo", "missing", 0, 10)


def test_commits_of_a_path_are_those_that_changed_it(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "paths", tmp_path / "work")
    host = under_test.host
    assert host.commits("demo", "paths", 0, 10, "data/a") == []
    pushed = [
        clone.commit(f"commit {number}", files)
        for number, files in enumerate([{"b": "1"}, {"data/a": "1"}, {"b": "2"}, {"data/a": "2", "b": "3"}, {"data/a b?&c": "1"}])
    ]
    clone.git("rm", "--quiet", "data/a")
    pushed.append(clone.commit("removed"))
    clone.git("push", "--quiet", "origin", "main")

    def listed(path: str, skip: int = 0, limit: int = 10) -> list[int]:
        return [pushed.index(item.id) for item in host.commits("demo", "paths", skip, limit, path)]

    assert listed("data/a") == [1, 3, 5]
    for skip, limit in itertools.product(range(4), range(1, 4)):
        assert listed("data/a", skip, limit) == [1, 3, 5][skip : skip + limit]
    assert (listed("b"), listed("data"), listed("data/a b?&c")) == ([0, 2, 3], [1, 3, 4, 5], [4])
    assert listed("missing") == listed("b/below") == []
    with pytest.raises(errors.NotFoundError):
        host.commits("demo", "missing", 0, 10, "data/a")


def test_files_of_a_commit_are_listed_and_read(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "files", tmp_path / "work")
    (clone.folder / "link").symlink_to("a.txt")
    first = clone.commit("first", {"a.txt": "one\n", "deep/er/größe.txt": "zwei\n", "empty": ""})
    second = clone.commit("second", {"a.txt": "another\n"})
    clone.git("push", "--quiet", "origin", "main")
    host = under_test.host
    assert host.paths("demo", "files", first) == ["a.txt", "deep/er/größe.txt", "empty", "link"]
    assert host.read("demo", "files", first, "a.txt", 100) == b"one\n"
    assert host.read("demo", "files", second, "a.txt", 100) == b"another\n"
    assert host.read("demo", "files", first, "deep/er/größe.txt", 6) == b"zwei\n"
    assert host.read("demo", "files", first, "empty", 0) == b""
    for path in ("missing", "deep", "deep/er", "a.txt/x", "link", "../a.txt", "/a.txt", ""):
        with pytest.raises(errors.NotFoundError):
            host.read("demo", "files", first, path, 100)
    with pytest.raises(errors.TooLargeError, match=r"a\.txt"):
        host.read("demo", "files", first, "a.txt", 3)
    for call in (lambda: host.paths("demo", "files", "0" * 40), lambda: host.read("demo", "files", "0" * 40, "a.txt", 9)):
        with pytest.raises(errors.NotFoundError):
            call()


def test_a_deleted_repository_is_removed_with_its_history(under_test: UnderTest, tmp_path: Path) -> None:
    clone = work(under_test, "deleted", tmp_path / "work")
    commit = clone.commit("first", {"a": "1"})
    clone.git("push", "--quiet", "origin", "main")
    for _ in range(2):
        under_test.host.delete_repository("demo", "deleted")
    for call in (
        lambda: under_test.host.heads("demo", "deleted"),
        lambda: under_test.host.pushes("demo", "deleted", 0),
        lambda: under_test.host.sign_webhooks("demo", "deleted", githosts.SECRET),
        lambda: under_test.host.grant_push("demo", "deleted", githosts.PASSWORD),
        lambda: under_test.host.export("demo", "deleted", commit, tmp_path / "out"),
    ):
        with pytest.raises(errors.NotFoundError):
            call()
    assert clone.push("origin", "main").returncode != 0
    under_test.register("deleted", password=f"{githosts.PASSWORD}-new")
    assert under_test.host.heads("demo", "deleted") == {}


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "with space", "-dash"])
def test_names_that_lead_outside_are_rejected(under_test: UnderTest, name: str) -> None:
    with pytest.raises(errors.InvalidError):
        under_test.host.create_repository(name, "codeset")
    with pytest.raises(errors.InvalidError):
        under_test.host.clone_url("demo", name)
