"""Push triggers: the pushes that start a run, by the globs of refs and paths in the `on` of a workflow.

In a glob, `*` and `?` match within one segment of a path, `**` as a segment matches any number of segments, `[abc]` matches one of these
characters. A glob of refs without the prefix `refs/` matches branches; tags need an explicit glob, such as `refs/tags/v*`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence

from fuseml.domain import errors
from fuseml.domain.documents import expression
from fuseml.domain.workflows.models import On, Workflow

MAX_GLOB = 256
_BRANCHES = "refs/heads/"
# Illegal in refs (git-check-ref-format), except for the glob characters `*`, `?` and `[`.
_NEVER_IN_REF = re.compile(r"[\x00-\x20\x7f~^:\\]|\.\.|@\{|//|/$|\.lock$|^[/!-]")
_CLOSED_BRACKETS = re.compile(r"[^\[]*+(?:\[[^\]/]++\][^\[]*+)*+")
_NEVER_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\]|//|^[/!]|^\./|(^|/)\.\.(/|$)")


def watched_folders(workflow: Workflow) -> list[str]:
    """The folders of the codeset in which the steps of the workflow run; none if a step runs at its root. Inputs have their defaults."""
    defaults = {item.name: item.default or "" for item in workflow.inputs}
    found = [_default(mount.folder, defaults) for step in workflow.steps for mount in step.mounts]
    return sorted(set(found)) if all(found) else []


def _default(folder: str, defaults: Mapping[str, str]) -> str:
    nodes = expression.parse(folder, lambda reference: isinstance(reference, expression.InputReference) and reference.name in defaults)
    text = "".join(node.text if isinstance(node, expression.Literal) else defaults.get(getattr(node, "name", ""), "") for node in nodes)
    return "/".join(part for part in text.split("/") if part not in ("", "."))


def watches_files(workflow: Workflow) -> bool:
    """Whether the changed files of a push decide about its run."""
    return bool((workflow.on and workflow.on.push and workflow.on.push.paths) or watched_folders(workflow))


def matches_push(on: On | None, ref: str, paths: Sequence[str] | None, folders: Sequence[str] = ()) -> tuple[bool, str]:
    """Whether a push starts a run, and the reason as a clause. `ref` is full (`refs/heads/main`), `paths` are the changed files.

    Without triggers in `on`, every push to a branch matches, as in the original; with other triggers only (a schedule, records of the registry,
    patterns of other artifacts than code), none does. `paths` are the files that differ between the commits before and after the push. Unknown paths (None: a
    new ref, or too many files) pass every path filter: a superfluous run is better than a missing one. The deletion of a ref is no push: it
    has no commit to run on. Without globs of paths, only changes in the `folders` match, if there are any (`watched_folders`).
    """
    others = [
        *["a schedule"] * bool(on and on.schedule),
        *["artifacts"] * bool(on and on.patterns),
        *["extensions"] * bool(on and on.extensions),
    ]
    if on and not on.push and others and not any(item.kind == "code" for item in on.subscriptions):
        return False, f"the workflow is triggered by {' and '.join(others)}"
    push = on.push if on else None
    if push and push.refs:
        if not any(matches_path(glob if glob.startswith("refs/") else _BRANCHES + glob, ref) for glob in push.refs):
            return False, f"{ref} does not match {', '.join(push.refs)}"
    elif not ref.startswith(_BRANCHES):
        return False, f"{ref} is not a branch"
    globs = push.paths if push else []
    if not globs and not folders:
        return True, f"{ref} was pushed"
    if paths is None:
        return True, f"{ref} was pushed; its changed files are unknown"
    if not globs:
        inside = next((path for path in paths for folder in folders if path.startswith(f"{folder}/")), None)
        return (True, f"{ref} was pushed and {inside} changed") if inside else (False, f"no file changed in {', '.join(folders)}")
    for path in paths:
        for glob in globs:
            if matches_path(glob, path):
                return True, f"{ref} was pushed and {path} matches {glob}"
    return False, f"no changed file matches {', '.join(globs)}"


def matches_path(glob: str, path: str) -> bool:
    """Whether a glob matches a path or a full ref."""
    # `reached` holds the possible numbers of matched segments of the glob: linear, without backtracking.
    parts = (f"{glob}**" if glob.endswith("/") else glob).split("/")
    reached = _past_wildcards(parts, {0})
    for segment in path.split("/"):
        after = {index for index in reached if index < len(parts) and parts[index] == "**"}
        after |= {index + 1 for index in reached - after if index < len(parts) and fnmatch.fnmatchcase(segment, parts[index])}
        reached = _past_wildcards(parts, after)
    return len(parts) in reached


def _past_wildcards(parts: Sequence[str], reached: set[int]) -> set[int]:
    extended = set(reached)
    for index in range(min(reached, default=len(parts)), len(parts)):
        if index in extended and parts[index] == "**":
            extended.add(index + 1)
    return extended


def check_ref(glob: str) -> None:
    """Raises InvalidError when the glob of refs cannot match any ref."""
    if not glob or len(glob) > MAX_GLOB or _NEVER_IN_REF.search(glob):
        raise errors.InvalidError(f"{glob[:MAX_GLOB]!r} cannot match a branch or tag; examples: main, release/*, refs/tags/v*")
    _check_brackets(glob)


def check_path(glob: str) -> None:
    """Raises InvalidError when the glob of paths cannot match any file of a codeset."""
    if not glob or len(glob) > MAX_GLOB or _NEVER_IN_PATH.search(glob):
        raise errors.InvalidError(
            f"{glob[:MAX_GLOB]!r} cannot match a file; paths are relative to the root of the codeset: conda.yaml, src/**, **/*.py"
        )
    _check_brackets(glob)


def _check_brackets(glob: str) -> None:
    if not _CLOSED_BRACKETS.fullmatch(glob):
        raise errors.InvalidError(f"{glob!r} has a '[' without a ']' in the same segment")
