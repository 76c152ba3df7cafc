"""Pushes in Gitea's feed of activities."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fuseml.githosts import gitea_feed
from fuseml.githosts.port import Push

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40


def activity(number: int, kind: str = "commit_repo", ref: str = "refs/heads/main", **content: Any) -> dict[str, Any]:
    document = {"Commits": [], "HeadCommit": {"Sha1": B}, "CompareURL": f"p/c/compare/{A}...{B}", "Len": 0} | content
    return {"id": number, "op_type": kind, "ref_name": ref, "content": json.dumps(document), "act_user": {"login": "ada"}}


@pytest.mark.parametrize(
    ("item", "push"),
    [
        (activity(1), Push("refs/heads/main", A, B, "ada")),
        (activity(1, CompareURL=f"p/c/compare/{ZERO}...{B}"), Push("refs/heads/main", None, B, "ada")),
        (activity(1, CompareURL=""), Push("refs/heads/main", None, B, "ada")),
        (activity(1, HeadCommit=None), Push("refs/heads/main", A, B, "ada")),
        (activity(1, "push_tag", "refs/tags/v1"), Push("refs/tags/v1", A, B, "ada")),
        # Former releases name refs in short.
        (activity(1, "push_tag", "v1"), Push("refs/tags/v1", A, B, "ada")),
        (activity(1, ref="release/1"), Push("refs/heads/release/1", A, B, "ada")),
        (activity(1, "mirror_sync_push"), Push("refs/heads/main", A, B, "ada")),
        (activity(1, "delete_branch"), None),
        (activity(1, "create_issue"), None),
        (activity(1, HeadCommit=None, CompareURL=""), None),
        (activity(1, ref=""), None),
        ({"id": 1, "op_type": "commit_repo", "ref_name": "main", "content": ""}, None),
        ({"id": 1, "op_type": "commit_repo", "ref_name": "main", "content": "{"}, None),
        ({"id": 1, "op_type": "commit_repo", "ref_name": "main", "content": "[]"}, None),
    ],
)
def test_an_activity_is_a_push_or_none(item: dict[str, Any], push: Push | None) -> None:
    assert gitea_feed.pushes([item], 0) == ([push] if push else [], 1)


def test_pushes_after_a_position_come_once_and_oldest_first() -> None:
    feed = [activity(number, HeadCommit={"Sha1": f"{number:040}"}) for number in (9, 8, 8, 5, 7, 3)]
    found, position = gitea_feed.pushes(feed, 5)
    assert ([int(push.commit) for push in found], position) == ([7, 8, 9], 9)
    assert gitea_feed.pushes(feed, 9) == ([], 9)
    assert gitea_feed.pushes([], 4) == ([], 4)
