"""Which pushes start a run, as the `on` of a workflow says it by ref and path.

In a glob `*` and `?` stay within one segment of a path, `**` as a segment is any number of them, `[abc]` is one of these characters.
A glob of refs that does not begin with `refs/` means branches: tags start a run only where a glob names them, `refs/tags/v*`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from fuseml.domain import errors
from fuseml.domain.workflows.models import On

MAX_GLOB = 256
_BRANCHES = "refs/heads/"
# What git refuses in a ref (git-check-ref-format); `*`, `?` and `[` are left to the globs.
_NEVER_IN_REF = re.compile(r"[\x00-\x20\x7f~^:\\]|\.\.|@\{|//|/$|\.lock$|^[/!-]")
_NEVER_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\]|//|^[/!]|^\./|(^|/)\.\.(/|$)")


def matches_push(on: On | None, ref: str, paths: Sequence[str] | None) -> tuple[bool, str]:
    """Whether a push starts a run, and why (a clause for people). `ref` is full (`refs/heads/main`), `paths` are the changed files.

    Without `on`, or with an `on` that names no trigger at all, every push to a branch counts, as in the original; an `on` that names
    other triggers only (a schedule, patterns that are not of code) is not meant for pushes. Unknown paths (None) pass every path filter: a run too many
    is better than a change that nobody builds. The deletion of a ref is no push: it has no commit to run on.
    """
    if on and not on.push and (on.schedule or on.patterns) and not any(pattern.startswith("code:") for pattern in on.patterns):
        return False, "the workflow is started by " + " and ".join(["a schedule"] * bool(on.schedule) + ["artifacts"] * bool(on.patterns))
    push = on.push if on else None
    if push and push.refs:
        if not any(matches_path(glob if glob.startswith("refs/") else _BRANCHES + glob, ref) for glob in push.refs):
            return False, f"{ref} is none of {', '.join(push.refs)}"
    elif not ref.startswith(_BRANCHES):
        return False, f"{ref} is not a branch"
    if not push or not push.paths:
        return True, f"{ref} was pushed"
    if paths is None:
        return True, f"{ref} was pushed; which files changed is not known"
    for path in paths:
        for glob in push.paths:
            if matches_path(glob, path):
                return True, f"{ref} was pushed and {path} matches {glob}"
    return False, f"no changed file matches {', '.join(push.paths)}"


def matches_path(glob: str, path: str) -> bool:
    """Whether a glob, of paths or of full refs, matches."""
    # `reached` holds how many segments of the glob can be used up so far: no backtracking, whatever the glob.
    parts = (f"{glob}**" if glob.endswith("/") else glob).split("/")
    reached = _past_wildcards(parts, {0})
    for segment in path.split("/"):
        after = {index for index in reached if index < len(parts) and parts[index] == "**"}
        after |= {index + 1 for index in reached - after if index < len(parts) and fnmatch.fnmatchcase(segment, parts[index])}
        reached = _past_wildcards(parts, after)
    return len(parts) in reached


def _past_wildcards(parts: Sequence[str], reached: set[int]) -> set[int]:
    found = set(reached)
    for index in range(min(reached, default=len(parts)), len(parts)):
        if index in found and parts[index] == "**":
            found.add(index + 1)
    return found


def check_ref(glob: str) -> None:
    """Raises InvalidError when the glob of refs cannot match any ref."""
    if not glob or len(glob) > MAX_GLOB or _NEVER_IN_REF.search(glob):
        raise errors.InvalidError(f"{glob[:MAX_GLOB]!r} cannot match a branch or tag; examples: main, release/*, refs/tags/v*")
    _check_brackets(glob)


def check_path(glob: str) -> None:
    """Raises InvalidError when the glob of paths cannot match any file of a codeset."""
    if not glob or len(glob) > MAX_GLOB or _NEVER_IN_PATH.search(glob):
        raise errors.InvalidError(f"{glob[:MAX_GLOB]!r} cannot match a file; paths begin at the codeset's top: conda.yaml, src/**, **/*.py")
    _check_brackets(glob)


def _check_brackets(glob: str) -> None:
    if re.sub(r"\[!?[^\]/]+\]", "", glob).count("["):
        raise errors.InvalidError(f"{glob!r} has a '[' without a ']' in the same segment")
