"""Projects, codesets, and the last published commit of each ref."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import artifact, errors, events
from fuseml.store import mirrors, paging, retention
from fuseml.store.tables.codeset_rows import Codeset, CodesetMove, CodesetRef, Project


def create_project(session: Session, name: str, description: str, now: str) -> Project:
    """Raises ConflictError when the name is taken."""
    if session.get(Project, name):
        raise errors.ConflictError(f"a project named {name!r} exists already")
    project = Project(name=name, description=description, created=now)
    session.add(project)
    session.flush()
    return project


def ensure_project(session: Session, name: str, now: str) -> Project:
    """The project; it is created if it is missing."""
    return session.get(Project, name) or create_project(session, name, "", now)


def project(session: Session, name: str) -> Project:
    """Raises NotFoundError."""
    row = session.get(Project, name)
    if row is None:
        raise errors.NotFoundError(f"there is no project named {name!r}; `fuseml project list` shows those that exist")
    return row


def find_project(session: Session, name: str) -> Project | None:
    """The project, or None."""
    return session.get(Project, name)


def describe_project(session: Session, row: Project, description: str) -> None:
    """Replace the description of a project."""
    row.description = description
    session.add(row)


def project_names(session: Session) -> Sequence[str]:
    """The names of all projects."""
    return session.exec(select(Project.name).order_by(col(Project.name))).all()


def named_projects(session: Session, names: Collection[str]) -> list[Project]:
    """Those of the projects that exist."""
    return [row for batch in paging.batches(names) for row in session.exec(select(Project).where(col(Project.name).in_(batch)))]


def projects(session: Session, page: paging.Page) -> paging.Slice[Project]:
    """Projects by name."""
    return paging.fetch(session, select(Project), page, Project.name)


def delete_project(session: Session, name: str) -> None:
    """Raises NotFoundError, and ConflictError while codesets are left in it."""
    row = project(session, name)
    left = session.exec(select(Codeset.name).where(Codeset.project == name).limit(4)).all()
    if left:
        raise errors.ConflictError(f"project {name!r} still has codesets ({', '.join(left)}); delete them first")
    retention.forget_project(session, name)
    mirrors.forget_project(session, name)
    session.delete(row)


def codeset(session: Session, project: str, name: str) -> Codeset:
    """Raises NotFoundError."""
    row = find_codeset(session, project, name)
    if row is None:
        raise errors.NotFoundError(f"there is no codeset {project}/{name}; `fuseml codeset list` shows those that exist")
    return row


def find_codeset(session: Session, project: str, name: str) -> Codeset | None:
    """The codeset, or None."""
    return session.get(Codeset, (project, name))


def codesets(session: Session, page: paging.Page, *, project: str | None = None) -> paging.Slice[Codeset]:
    """Codesets by project and name."""
    query = select(Codeset)
    if project:
        query = query.where(Codeset.project == project)
    return paging.fetch(session, query, page, Codeset.project, Codeset.name)


def add_codeset(session: Session, row: Codeset) -> None:
    """Store a new codeset."""
    session.add(row)
    session.flush()


def update_codeset(session: Session, row: Codeset, *, labels: list[str], url: str) -> None:
    """Replace the labels and the clone address of a codeset."""
    row.labels, row.url = labels, url
    session.add(row)


def record_default_branch(session: Session, row: Codeset, branch: str) -> None:
    """Store the default branch of the repository, by its short name."""
    if branch and row.default_branch != branch:
        row.default_branch = branch
        session.add(row)


def replace_password(session: Session, row: Codeset, sealed: str) -> None:
    """Store a new password of a codeset; the former one has no use any more."""
    row.git_password = sealed
    session.add(row)


def record_position(session: Session, row: Codeset, position: int) -> None:
    """Store the position in the git host's record up to which all pushes are published."""
    row.pushes_seen = position
    session.add(row)


def delete_codeset(session: Session, project: str, name: str) -> None:
    """Removes the codeset, its refs with their known moves, and its assignments. Raises NotFoundError."""
    # Imported here: other queries of codesets need no mapping of workflows.
    from fuseml.store.tables import workflow_rows

    row = codeset(session, project, name)
    for ref in _refs(session, project, name):
        session.delete(ref)
    session.exec(sqlalchemy.delete(CodesetMove).where(col(CodesetMove.project) == project, col(CodesetMove.codeset) == name))
    for assignment in session.exec(select(workflow_rows.Assignment).where(workflow_rows.Assignment.pattern == f"code://{project}/{name}")):
        session.delete(assignment)
    session.delete(row)


def _refs(session: Session, project: str, name: str) -> Sequence[CodesetRef]:
    return session.exec(select(CodesetRef).where(CodesetRef.project == project, CodesetRef.codeset == name)).all()


def commits(session: Session, project: str, name: str) -> Mapping[str, str]:
    """The present commit of each ref, as far as it is known: ref -> commit."""
    return {row.ref: row.commit for row in _refs(session, project, name)}


def default_ref(session: Session, project: str, name: str) -> str:
    """The default branch of a codeset, in full: as the git host reported it or, before, `main`, else `master`, else its only branch."""
    row = find_codeset(session, project, name)
    return _default_ref(row.default_branch if row else "", commits(session, project, name))


def _default_ref(reported: str, refs: Collection[str]) -> str:
    if reported:
        return f"refs/heads/{reported}"
    branches = [ref for ref in refs if ref.startswith("refs/heads/")]
    known = next((ref for ref in ("refs/heads/main", "refs/heads/master") if ref in refs), None)
    return known or (branches[0] if len(branches) == 1 else "refs/heads/main")


class Head(NamedTuple):
    """The default branch of a codeset: its full name, its present commit, and of the push that moved it there the commit before, if it is
    known, and the time at which it was taken.
    """

    codeset: Codeset
    ref: str
    commit: str
    before: str | None
    updated: str


def default_heads(session: Session) -> list[Head]:
    """The default branch of every codeset that has a commit there, by project and name."""
    refs: dict[tuple[str, str], dict[str, CodesetRef]] = {}
    for row in session.exec(select(CodesetRef).where(col(CodesetRef.ref).startswith("refs/heads/"))):
        refs.setdefault((row.project, row.codeset), {})[row.ref] = row
    heads = []
    for codeset in all_codesets(session):
        branches = refs.get((codeset.project, codeset.name), {})
        head = branches.get(_default_ref(codeset.default_branch, branches))
        if head is not None:
            before = events.CodesetPushed.before_of(head.push, head.ref, head.commit, codeset.created)
            heads.append(Head(codeset, head.ref, head.commit, before, head.updated))
    return heads


def current_commits(session: Session, project: str, name: str | None = None) -> dict[str, str]:
    """Codeset -> the present commit of its default branch, of the codesets of the project that have one, or of one codeset; by name."""
    query = select(Codeset.name, Codeset.default_branch, CodesetRef.ref, CodesetRef.commit).where(
        Codeset.project == project, CodesetRef.project == Codeset.project, CodesetRef.codeset == Codeset.name
    )
    if name:
        query = query.where(Codeset.name == name)
    reported: dict[str, str] = {}
    refs: dict[str, dict[str, str]] = {}
    for codeset, branch, ref, commit in session.exec(query.order_by(col(Codeset.name), col(CodesetRef.ref))):
        reported[codeset] = branch
        refs.setdefault(codeset, {})[ref] = commit
    defaults = {codeset: _default_ref(reported[codeset], known) for codeset, known in refs.items()}
    return {codeset: known[defaults[codeset]] for codeset, known in refs.items() if defaults[codeset] in known}


def record_commit(session: Session, codeset: Codeset, ref: str, commit: str, now: str, push: str | None = None) -> None:
    """Store `commit` as the present one of `ref`, and the identity of the push that moved it there; None keeps that of the same commit."""
    row = session.get(CodesetRef, (codeset.project, codeset.name, ref))
    if row is None:
        session.add(CodesetRef(project=codeset.project, codeset=codeset.name, ref=ref, commit=commit, updated=now, push=push or ""))
    else:
        kept = row.push if row.commit == commit else ""
        row.commit, row.updated, row.push = commit, now, kept if push is None else push
        session.add(row)


def last_push(session: Session, project: str, name: str, ref: str) -> str:
    """The identity of the push that moved `ref` to its present commit; empty where it is not known."""
    row = session.get(CodesetRef, (project, name, ref))
    return row.push if row else ""


def matching(session: Session, project: str, pattern: str) -> list[str]:
    """The names of the project's codesets that match the pattern, in order."""
    names = session.exec(select(Codeset.name).where(Codeset.project == project).order_by(col(Codeset.name))).all()
    return [name for name in names if artifact.matches(pattern, "code", project, name)]


def all_codesets(session: Session) -> Sequence[Codeset]:
    """Every codeset, for the sweep."""
    return session.exec(select(Codeset).order_by(col(Codeset.project), col(Codeset.name))).all()


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Pass every sealed webhook secret and password through `change(project/codeset, value)`."""
    for row in all_codesets(session):
        row.webhook_secret = change(f"{row.project}/{row.name}", row.webhook_secret)
        row.git_password = change(f"{row.project}/{row.name}", row.git_password) if row.git_password else None
        session.add(row)
