"""Clones and pulls of clients that take only a part of the capabilities that the embedded git host offers, as go-git and isomorphic-git do."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import dulwich.client
import dulwich.porcelain
import dulwich.protocol
import pytest
import urllib3
from dulwich.pack import OFS_DELTA, PackStreamReader

from tests.waiting import PATIENCE

from . import githost

server, clone = githost.server, githost.clone

OFFERED = ("thin-pack", "ofs-delta", "side-band-64k", "multi_ack_detailed", "no-progress")
CHOICES = [choice for size in range(len(OFFERED) + 1) for choice in itertools.combinations(OFFERED, size)]
"""Every part of the offer."""


@pytest.fixture
def history(clone: githost.Clone) -> list[str]:
    """Two commits with a file that git packs as a delta; the ids, oldest first."""
    lines = [f"line {number} of a file that is long enough for a delta\n" for number in range(3000)]
    first = clone.commit("long", {"long.txt": "".join(lines)})
    second = clone.commit("longer", {"long.txt": "".join([*lines, "one more\n"])})
    clone.git("push", "--quiet", "origin", "main")
    return [first, second]


def fetch(server: githost.Server, capabilities: tuple[str, ...], want: str, *have: str) -> bytes:
    """The pack of the server's answer, as a client with these capabilities reads it."""
    line = dulwich.protocol.pkt_line
    words = b" ".join([b"want", want.encode(), *(word.encode() for word in capabilities)])
    # A stateless client of multi_ack_detailed sends its last request with `done` again.
    lines = [line(words + b"\n"), line(None), *(line(f"have {commit}\n".encode()) for commit in have), line(b"done\n")]
    headers = {"Content-Type": "application/x-git-upload-pack-request", **urllib3.make_headers(basic_auth=f"ada:{githost.PASSWORD}")}
    url = f"http://127.0.0.1:{server.port}/git/workspace/mnist.git/git-upload-pack"
    response = urllib3.request("POST", url, body=b"".join(lines), headers=headers, timeout=PATIENCE)
    assert response.status == 200, response.data
    body = io.BytesIO(response.data)
    wire = dulwich.protocol.Protocol(body.read, lambda _: None)
    while True:
        answer = wire.read_pkt_line()
        assert answer is not None and answer.split()[0] in (b"NAK", b"ACK"), answer
        # The last acknowledgement has no word behind the commit.
        if answer == b"NAK\n" or len(answer.split()) == 2:
            break
    return b"".join(_data(wire)) if "side-band-64k" in capabilities else body.read()


def _data(wire: dulwich.protocol.Protocol) -> Iterator[bytes]:
    for packet in wire.read_pkt_seq():
        assert packet[0] in (1, 2), packet
        if packet[0] == 1:
            yield packet[1:]


def test_a_client_may_leave_out_any_capability(server: githost.Server, history: list[str], tmp_path: Path) -> None:
    for capabilities in CHOICES:
        whole = fetch(server, capabilities, history[-1])
        added = fetch(server, capabilities, history[-1], history[0])
        assert len(added) < len(whole), capabilities
        for pack in (whole, added):
            kinds = {entry.pack_type_num for entry in PackStreamReader(hashlib.sha1, io.BytesIO(pack).read).read_objects()}
            assert "ofs-delta" in capabilities or OFS_DELTA not in kinds, capabilities
            # Without --fix-thin: a pack without the base of a delta is refused, and so is anything behind the pack.
            received = tmp_path / f"{'-'.join(('received', *capabilities))}-{len(pack)}.pack"
            received.write_bytes(pack)
            githost.git("index-pack", str(received))
            assert f"{history[-1]} commit" in githost.git("verify-pack", "--verbose", str(received)), capabilities


def test_packs_hold_deltas_for_clients_that_read_them(server: githost.Server, history: list[str]) -> None:
    with_deltas, without = (len(fetch(server, choice, history[-1])) for choice in (OFFERED, ()))
    assert with_deltas < without


@pytest.mark.parametrize("thin", [True, False])
def test_dulwich_clones_pulls_and_pushes(
    server: githost.Server, history: list[str], clone: githost.Clone, tmp_path: Path, thin: bool
) -> None:
    address = server.url()
    client, path = dulwich.client.get_transport_and_path(address, thin_packs=thin)
    folder = tmp_path / "mine"
    with client.clone(path, str(folder), branch="main") as repository:
        assert repository.head().decode() == history[-1]
    theirs = clone.commit("theirs", {"theirs.txt": "x"})
    clone.git("push", "--quiet", "origin", "main")
    dulwich.porcelain.pull(str(folder), address, b"main", thin_packs=thin)
    (folder / "mine.txt").write_text("y")
    dulwich.porcelain.add(str(folder), [str(folder / "mine.txt")])
    mine = dulwich.porcelain.commit(str(folder), b"mine", author=b"Ada <ada@example.com>", committer=b"Ada <ada@example.com>")
    dulwich.porcelain.push(str(folder), address, b"main", outstream=io.BytesIO(), errstream=io.BytesIO(), thin_packs=thin)
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": mine.decode()}
    assert server.host.commits("workspace", "mnist", 0, 100)[-2].id == theirs
