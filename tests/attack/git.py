"""Git: moves of refs that look like repetitions, halves of pushes, packs that lie, odd commits."""

from __future__ import annotations

import base64
import os
import subprocess
import urllib.parse
import zlib

from tests import commands, documents, packs
from tests.attack.target import Attack, Target, check
from tests.component import githost
from tests.component.test_githost_oddities import AUTHORS
from tests.embedded import servers
from tests.waiting import wait_until

_MIB = 1 << 20
_ZERO = "0" * 40
# The bound of an object is 100 MiB, and what the server keeps of a push in memory is far below it.
_MEMORY = 256 * _MIB
_WORKFLOW = """
name: {name}
inputs: [{name: code, type: codeset}]
on: {push: {refs: [main, side, "refs/tags/*"]}}
steps: [{name: fit, image: "fuseml.local/shell:1", inputs: [{codeset: {name: code}}], script: "true"}]
"""


def _git(checkout: servers.Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git; it may fail."""
    return commands.run(["git", *arguments], cwd=checkout.folder, environment=servers.GIT_ENVIRONMENT, code=None)


def _refs(checkout: servers.Checkout) -> dict[str, str]:
    lines = _git(checkout, "ls-remote", "origin").stdout.splitlines()
    return {name: commit for commit, _, name in (line.partition("\t") for line in lines)}


def _still_works(checkout: servers.Checkout, after: str) -> None:
    check(
        _git(checkout, "push", "--quiet", "--force", "origin", "HEAD:refs/heads/works").returncode == 0, f"no push is taken after {after}"
    )


def _moves(target: Target) -> None:
    checkout, _, workflow = target.codeset(_WORKFLOW)
    first, second = checkout.push("first"), checkout.push("second")
    tag, branch = "refs/tags/v1", "refs/heads/side"
    moves = {
        "a forced push back": ([f"{first}:main"], 1),
        "a forced push forth": ([f"{second}:main"], 1),
        "a new tag": ([f"{first}:{tag}"], 1),
        "a moved tag": ([f"{second}:{tag}"], 1),
        "a tag moved back": ([f"{first}:{tag}"], 1),
        "a deleted tag that is pushed again": ([f":{tag}", f"{first}:{tag}"], 1),
        "a deleted branch that is pushed again": ([f"{first}:{branch}", f":{branch}", f"{first}:{branch}"], 2),
    }
    count = 2
    for name, (pushes, runs) in moves.items():
        for push in pushes:
            done = _git(checkout, "push", "--quiet", "--force", "origin", push)
            check(done.returncode == 0, f"{name} is refused: {done.stderr!r}")
        count += runs
        _runs(target, workflow, count, name)


def _runs(target: Target, workflow: str, count: int, name: str) -> None:
    try:
        wait_until(lambda: len(target.get(f"/runs?workflow={workflow}&limit=100")) >= count, name)
    except AssertionError:
        check(False, f"{name} starts no run")


def _atomic(target: Target) -> None:
    checkout, *_ = target.codeset()
    checkout.push("first")
    before = _refs(checkout)
    servers.git(checkout.folder, "commit", "--quiet", "--allow-empty", "--message", "second")
    for bad in ("refs/heads/main/below", "refs/heads/x.lock/y", "refs/heads/" + "n" * 300):
        done = _git(checkout, "push", "--quiet", "--atomic", "origin", "HEAD:refs/heads/good", "HEAD:refs/heads/main", f"HEAD:{bad}")
        check(done.returncode == 0 or _refs(checkout) == before, f"--atomic with {bad} has moved a part: {_refs(checkout)}")
        before = _refs(checkout)
    _still_works(checkout, "refused atomic pushes")


def _many_paths(target: Target) -> None:
    checkout, _, workflow = target.codeset(_WORKFLOW)
    lines = ["commit refs/heads/main\ncommitter Ada <ada@example.com> 1790000000 +0000\ndata 4\nmany\n"]
    lines += [f"M 644 inline data/part-{number % 97}/{number}-{'x' * 100}.csv\ndata 1\nx\n" for number in range(40_000)]
    commands.run(["git", "fast-import", "--quiet"], cwd=checkout.folder, environment=servers.GIT_ENVIRONMENT, text="".join(lines))
    done = _git(checkout, "push", "--quiet", "origin", "main")
    check(done.returncode == 0, f"a push of 40,000 files is refused: {done.stderr!r}")
    _runs(target, workflow, 1, "a push of 40,000 files")


def _authors(target: Target) -> None:
    checkout, _, workflow = target.codeset(documents.one_step("{name}", code=documents.COMMIT))
    parent = checkout.push("first")
    tree = servers.git(checkout.folder, "rev-parse", "HEAD^{tree}")
    for count, (name, author) in enumerate(AUTHORS.items(), 2):
        raw = f"tree {tree}\nparent {parent}\nauthor {author}\ncommitter Ada <ada@example.com> 1790000000 +0100\n\n{name}\n"
        (checkout.folder / ".git" / "raw").write_bytes(raw.encode("utf-8", "surrogateescape"))
        parent = servers.git(checkout.folder, "hash-object", "-t", "commit", "-w", "--literally", ".git/raw")
        done = _git(checkout, "push", "--quiet", "origin", f"{parent}:main")
        check(done.returncode == 0, f"a commit with an author {name} is refused: {done.stderr!r}")
        _runs(target, workflow, count, f"a commit with an author {name}")


def _receive(target: Target, checkout: servers.Checkout, ref: bytes, body: bytes) -> None:
    """Push by the protocol itself: no git would send this."""
    url = urllib.parse.urlsplit(servers.git(checkout.folder, "remote", "get-url", "origin"))
    account = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    headers = {"Authorization": f"Basic {account}", "Content-Type": "application/x-git-receive-pack-request"}
    commit = servers.git(checkout.folder, "rev-parse", "HEAD").encode()
    command = _ZERO.encode() + b" " + commit + b" " + ref + b"\0 report-status"
    target.raw("POST", f"{url.path}/git-receive-pack", headers, githost.packet(command) + b"0000" + body)


def _expect_taken(target: Target, checkout: servers.Checkout, body: bytes) -> None:
    """Raise AssertionError unless a valid push is taken that is made like those of the attack: else their refusal would show nothing."""
    _receive(target, checkout, b"refs/heads/valid", body)
    assert "refs/heads/valid" in _refs(checkout), "the server takes no valid push, so that the attack shows nothing"


def _zeros(size: int) -> bytes:
    """A blob of zeros, compressed in parts."""
    packer = zlib.compressobj()
    parts = [packer.compress(bytes(_MIB)) for _ in range(size // _MIB)]
    return packs.number(size, 4, 3) + b"".join(parts) + packer.flush()


def _bombs(target: Target) -> None:
    checkout, *_ = target.codeset()
    checkout.push("first")
    bombs = {
        "an object of 256 MiB in 256 KiB": packs.pack([_zeros(256 * _MIB)]),
        "an object that declares a terabyte": packs.pack([packs.entry(3, b"x", declared=1 << 40)]),
        "an object that is larger than declared": packs.pack([packs.number(100, 4, 3) + _zeros(64 * _MIB)[5:]]),
        "a delta with a large result": packs.pack([packs.entry(3, b"x"), packs.entry(6, packs.delta(1, 1 << 33), base=packs.back(10))]),
        "more objects than there are": packs.pack([], count=(1 << 32) - 1),
        "deltas on deltas": packs.chain(50, 20 * _MIB, 1),
        "a number without an end": packs.pack([b"\xff" * 100]),
    }
    _expect_taken(target, checkout, packs.pack([packs.entry(3, b"y"), packs.entry(6, packs.delta(1, 1), base=packs.back(10))]))
    before = target.measured("process_resident_memory_bytes")
    for name, bomb in bombs.items():
        _receive(target, checkout, b"refs/heads/bomb", bomb)
        check("refs/heads/bomb" not in _refs(checkout) or "deltas" in name, f"{name} is taken")
        grown = target.measured("process_resident_memory_bytes") - before
        check(grown < _MEMORY, f"{name} makes the server {grown / _MIB:.0f} MiB larger")
    _still_works(checkout, "packs that lie")


def _names_of_refs(target: Target) -> None:
    checkout, *_ = target.codeset()
    checkout.push("first")
    empty = packs.pack([])
    _expect_taken(target, checkout, empty)
    before = _refs(checkout)
    names = [
        b"refs/heads/../../x",
        b"HEAD",
        b"config",
        b"refs/heads/a.lock",
        b"refs/heads/\x1b[2J",
        b"refs/heads/..",
        b"/etc/x",
        b"refs/heads/a\\b",
    ]
    for name in [
        *names,
        b"refs/heads/a b",
        b"refs/heads/-x/",
        b"refs//heads/x",
        b"refs/heads/@{0}",
        b"hooks/post-receive",
        b"refs/heads/\0x",
    ]:
        _receive(target, checkout, name, empty)
    check(_refs(checkout) == before, f"refs of no valid name were made: {_refs(checkout)}")
    _still_works(checkout, "names that are none")


def _accounts(target: Target) -> None:
    checkout, *_ = target.codeset()
    checkout.push("first")
    other, *_ = target.codeset()
    url = servers.git(checkout.folder, "remote", "get-url", "origin")
    strange = servers.git(other.folder, "remote", "get-url", "origin")
    parts, others = urllib.parse.urlsplit(url), urllib.parse.urlsplit(strange)
    host = f"{parts.hostname}:{parts.port}"
    accounts = ["", "x:", f"{others.username}:{others.password}", f"{parts.username}:wrong", f":{others.password}", "%00:%00"]
    for account in accounts:
        for arguments in (["ls-remote"], ["push", "--quiet"]):
            address = f"http://{account + '@' if account else ''}{host}{parts.path}"
            done = _git(checkout, *arguments, address, *(["HEAD:refs/heads/stolen"] if arguments[0] == "push" else []))
            check(done.returncode != 0, f"git {arguments[0]} works with the account {account!r}")
    for path in ("/..%2f..", "/%2e%2e/x", f"{os.path.dirname(parts.path)}/../{os.path.basename(parts.path)}"):
        status, _ = target.raw("GET", f"/git{path}/info/refs?service=git-upload-pack", {})
        check(status == 0 or 400 <= status < 500, f"/git{path} was answered with {status}")


ATTACKS = (
    Attack("moves of refs", "a ref that moves starts a run, wherever it pointed before", _moves),
    Attack("halves of atomic pushes", "an atomic push moves all of its refs or none", _atomic),
    Attack("a push of 40,000 files", "a push of any size starts its run", _many_paths, slow=True),
    Attack("odd authors", "a commit whose author line is broken starts its run", _authors),
    Attack("packs that lie", "a pack of a few kilobytes takes no memory, and is refused", _bombs),
    Attack("names of refs", "a ref of no valid name is refused", _names_of_refs),
    Attack("accounts of others", "a codeset is read and pushed with its own account only", _accounts),
)
