"""The file of a backup, its verification, and the places that a restoration may change."""

from __future__ import annotations

import gzip
import io
import pathlib
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable

import pytest

from fuseml.domain import errors
from fuseml.embedded import archive, backup
from tests.waiting import wait_until


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A home with a file of each kind."""
    home = tmp_path / "home"
    made = {
        "keys": b"key\n",
        "token": b"token\n",
        "url": b"http://127.0.0.1:1\n",
        "lock": b"1\n",
        "logs/server.log": b"log\n",
        "git/p/c.git/HEAD": b"ref: refs/heads/main\n",
        "git/p/c.git/refs/heads/main": b"0" * 40,
        "git/p/c.git/refs/heads/main.lock": b"",
        "git/p/c.git/fuseml-pushes": b"\n{}\n",
        "git/p/c.git/objects/pack/pack-1.idx": b"idx",
        "git/p/c.git/objects/pack/pack-1.pack": random.Random(1).randbytes(3 << 20),
        "git/p/c.git/objects/pack/tmp_1": b"partial",
        "git/p/c.git/lfs/objects/ab/cd/abcd": b"weights",
        "git/p/c.git/lfs/tmp/tmpx": b"partial",
        "contents/runs/1/train.log": b"text\n",
        "contents/.partial/x": b"partial",
        "runs/1/plan.json": b"{}",
        "runs/1/steps/train/log": b"",
        "runs/1/steps/train/results/secret": b"untrusted",
        "runs/1/checkouts/p/c@1/work": b"code",
        f"mlflow/artifacts/{'x' * 90}/{'y' * 90}/model.bin": b"model",
        "environments/a/bin/python": b"",
        "apps/wine.log": b"",
    }
    for name, content in made.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    (home / "git/p/c.git/refs/tags").mkdir()
    (home / "git/p/c.git/hooks").symlink_to("/etc")
    for name in ("fuseml.db", "mlflow/mlflow.db"):
        with sqlite3.connect(home / name) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE item (number INTEGER)")
        connection.close()
    return home


EXPECTED = {
    *("fuseml.db", "keys", "token", "git/p/c.git/HEAD", "git/p/c.git/refs/heads/main", "git/p/c.git/fuseml-pushes"),
    *("git/p/c.git/objects/pack/pack-1.idx", "git/p/c.git/objects/pack/pack-1.pack", "git/p/c.git/lfs/objects/ab/cd/abcd"),
    *("contents/runs/1/train.log", "runs/1/plan.json"),
    *("runs/1/steps/train/log", f"mlflow/artifacts/{'x' * 90}/{'y' * 90}/model.bin", "mlflow/mlflow.db"),
}


def names(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def test_a_backup_restores_the_state_and_nothing_else(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, restored = tmp_path / "b", tmp_path / "deep" / "restored"
    summary = backup.save(home, file)
    assert summary.files == len(EXPECTED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert backup.restore(file, restored, force=False) == (summary, None)
    assert names(restored) == EXPECTED
    assert all((restored / name).read_bytes() == (home / name).read_bytes() for name in EXPECTED if not name.endswith(".db"))
    assert (restored / "git/p/c.git/refs/tags").is_dir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (restored, *restored.rglob("*"))} == {0o600, 0o700}
    assert leftovers(tmp_path) | leftovers(tmp_path / "deep") == set()


def test_order_puts_refs_before_records_before_objects_before_keys(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup.save(home, tmp_path / "b")
    order = [entry[0] for entry in read_all(tmp_path / "b")]
    assert order[:2] == [archive.DESCRIPTION, "fuseml.db"]
    assert order[-2:] == ["keys", archive.MANIFEST]
    pushed = [
        order.index(f"git/p/c.git/{name}")
        for name in ("refs/heads/main", "fuseml-pushes", "objects/pack/pack-1.idx", "objects/pack/pack-1.pack")
    ]
    assert pushed == sorted(pushed)


def read_all(file: pathlib.Path) -> list[tuple[str, bytes]]:
    return [(entry.name, b"".join(entry.blocks)) for entry in archive.read(file)]


def test_a_database_is_copied_as_of_one_moment_while_others_write(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    program = (
        "import sqlite3, sys, itertools\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "for number in itertools.count():\n"
        "    connection.execute('BEGIN IMMEDIATE')\n"
        "    connection.executemany('INSERT INTO item VALUES (?)', [(number,)] * 7)\n"
        "    connection.execute('COMMIT')\n"
        "    number or print('writing', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home / "fuseml.db")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for number in range(5):
            backup.save(home, tmp_path / f"b{number}")
            backup.restore(tmp_path / f"b{number}", tmp_path / f"r{number}", force=False)
        writer.kill()
    for number in range(5):
        connection = sqlite3.connect(tmp_path / f"r{number}" / "fuseml.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) % 7, count(*) > 0 FROM item").fetchone() == (0, 1)
        connection.close()


def test_a_home_in_use_or_with_content_is_not_replaced(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, other = tmp_path / "b", tmp_path / "other"
    backup.save(home, file)
    other.mkdir()
    (other / "mine").write_text("mine")
    with pytest.raises(errors.ConflictError, match="is not empty"):
        backup.restore(file, other, force=False)
    program = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, str(other / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with pytest.raises(errors.ConflictError, match="stop it first"):
            backup.restore(file, other, force=True)
        server.kill()
    assert (other / "mine").read_text() == "mine"
    _, former = backup.restore(file, other, force=True)
    assert former is not None
    assert (former / "mine").read_text() == "mine"
    assert names(other) == EXPECTED
    for target in (file, home / "inside"):
        with pytest.raises((errors.ConflictError, errors.InvalidError)):
            backup.save(home, target)
    with pytest.raises(errors.NotFoundError, match=r"no home of a FuseML server"):
        backup.save(former, tmp_path / "c")
    assert leftovers(tmp_path) == set()


def rewritten(file: pathlib.Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    """The backup with changed members."""
    with tarfile.open(file) as source:
        members = [(info, source.extractfile(info).read()) for info in source]  # type: ignore[union-attr]
    change(members)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz", format=tarfile.GNU_FORMAT) as target:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            target.addfile(info, io.BytesIO(content))
    return output.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"evil"


EVIL: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]] = {
    **{
        f"a name {name!r}": lambda members, name=name: members.insert(1, member(name))  # type: ignore[misc]
        for name in ("../evil", "/tmp/evil", "a/../../evil", "a//b", "./a", "a/.", "a\\b", "a\nb", "x" * 5000)
    },
    **{
        f"a member of type {kind!r}": lambda members, kind=kind: members.insert(1, member("a", kind, "/etc"))  # type: ignore[misc]
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE)
    },
    "an unknown file": lambda members: members.insert(1, member("more")),
    "a file twice": lambda members: members.insert(1, members[1]),
    "a missing file": lambda members: members.pop(2) and None,
    "no manifest": lambda members: members.pop() and None,
    "no description": lambda members: members.pop(0) and None,
    "two manifests": lambda members: members.append(members[-1]),
    "a file behind the manifest": lambda members: members.append(member("more")),
    "another content": lambda members: members.__setitem__(3, (members[3][0], members[3][1] + b"!")),
    "another release": lambda members: members.__setitem__(0, (members[0][0], b'{"format": 1, "schema": "9999", "fuseml": "9"}')),
    "another format": lambda members: members.__setitem__(0, (members[0][0], b'{"format": 2}')),
    "a description that is no object": lambda members: members.__setitem__(0, (members[0][0], b"[]")),
    "nested brackets": lambda members: members.__setitem__(0, (members[0][0], b"[" * 60_000)),
    "a huge description": lambda members: members.__setitem__(0, (members[0][0], b" " * 100_000)),
    "folders outside": lambda members: members.__setitem__(
        -1, (members[-1][0], members[-1][1].replace(b'"folders": [', b'"folders": ["../evil", '))
    ),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_changed_backup_is_refused_and_changes_nothing(home: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    file, target = tmp_path / "b", tmp_path / "target"
    backup.save(home, file)
    file.write_bytes(rewritten(file, EVIL[name]))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(errors.InvalidError, match="nothing was restored"):
        backup.restore(file, target, force=False)
    assert sorted(tmp_path.iterdir()) == before


def test_any_damage_of_a_backup_is_refused(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, source = tmp_path / "b", random.Random(7)
    backup.save(home, file)
    whole = file.read_bytes()
    # Behind the header of gzip, whose time and flags of the system mean nothing.
    damaged = [whole[: source.randrange(len(whole))] for _ in range(15)] + [b"", whole + b"more", b"\0" * 600, gzip.compress(b"no tar")]
    for _ in range(15):
        place = source.randrange(10, len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << source.randrange(8)]) + whole[place + 1 :])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(errors.InvalidError, match="nothing was restored"):
            backup.restore(file, tmp_path / "target", force=False)
        assert not (tmp_path / "target").exists()
        assert leftovers(tmp_path) == set()


def test_a_killed_restoration_leaves_the_home_as_it_was_or_complete(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, source = tmp_path / "b", random.Random(5)
    backup.save(home, file)
    target = tmp_path / "target"
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-m", "fuseml.cli.main", "restore", str(file), "--home", str(target)], stdout=subprocess.DEVNULL
        ) as process:
            wait_until(lambda p=process: p.poll() is not None or leftovers(tmp_path) or target.exists(), "the begin")  # type: ignore[misc]
            time.sleep(source.random() * 0.1)
            process.send_signal(signal.SIGKILL)
        assert not target.exists() or names(target) == EXPECTED
        if target.exists():
            target.rename(tmp_path / f"done-{time.monotonic_ns()}")
    backup.restore(file, target, force=False)
    assert names(target) == EXPECTED
    assert leftovers(tmp_path) == set()
