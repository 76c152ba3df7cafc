"""The feed of activities of a repository on Gitea as a record of pushes: the pushes that moved a branch or tag, one activity each.

Gitea writes the activity of a push in the process that queues its webhook, so the feed has the pushes whose deliveries failed
(infra/platform-facts.md 5.4). Its numbers only grow. Deletions are activities too; what a deleted ref pointed at is of no use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fuseml.githosts.port import Push

_PREFIXES = {"commit_repo": "refs/heads/", "mirror_sync_push": "refs/heads/", "push_tag": "refs/tags/"}
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def pushes(activities: Iterable[Mapping[str, Any]], after: int) -> tuple[list[Push], int]:
    """The pushes among the activities with a number above `after`, oldest first, and the largest number."""
    # Activities may come while the pages are read, so that one is on two pages.
    fresh = {number: item for item in activities if (number := _number(item)) > after}
    found = [push for number in sorted(fresh) if (push := _push(fresh[number])) is not None]
    return found, max(fresh, default=after)


def _number(activity: Mapping[str, Any]) -> int:
    number = activity.get("id")
    return number if isinstance(number, int) else 0


def _push(activity: Mapping[str, Any]) -> Push | None:
    """The push of an activity; None for another one, and for a branch that was made from another one in the web interface."""
    prefix = _PREFIXES.get(str(activity.get("op_type")))
    try:
        content = json.loads(activity.get("content") or "{}")
        commit = str((content.get("HeadCommit") or {}).get("Sha1") or "")
        before, _, after = str(content.get("CompareURL") or "").rpartition("/")[2].partition("...")
    except (ValueError, AttributeError):
        return None
    commit = commit if _COMMIT.fullmatch(commit) else after
    ref = str(activity.get("ref_name") or "")
    if prefix is None or not ref or not _COMMIT.fullmatch(commit):
        return None
    is_known = _COMMIT.fullmatch(before) is not None and bool(before.strip("0"))
    pusher = str((activity.get("act_user") or {}).get("login") or "")
    return Push(ref if ref.startswith("refs/") else f"{prefix}{ref}", before if is_known else None, commit, pusher)
