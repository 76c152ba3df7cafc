"""Use cases of `codesets`."""

from __future__ import annotations

from collections.abc import Sequence

from functions.codesets import origins
from functions.codesets.deps import Deps
from fuseml import githosts
from fuseml.domain import errors, events
from fuseml.domain.documents import document
from fuseml.runtime import clock, cloudevents, secrets
from fuseml.store import codesets, moves, paging, webhooks
from fuseml.store import origins as stored_origins
from fuseml.usecases import git_access


def list_projects(deps: Deps, limit: int, cursor: str | None) -> paging.Slice[codesets.Project]:
    """A page of projects."""
    with deps.store.read() as session:
        return codesets.projects(session, paging.Page(limit, cursor))


def create_project(deps: Deps, name: str, description: str) -> codesets.Project:
    """Raises InvalidError for the name, ConflictError when it is taken."""
    document.check_identifier("name", name)
    with deps.store.write() as session:
        return codesets.create_project(session, name, description, clock.now())


def get_project(deps: Deps, name: str) -> codesets.Project:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return codesets.project(session, name)


def delete_project(deps: Deps, name: str) -> None:
    """Raises NotFoundError, ConflictError while it has codesets."""
    with deps.store.write() as session:
        codesets.delete_project(session, name)


def list_codesets(deps: Deps, project: str | None, limit: int, cursor: str | None) -> paging.Slice[codesets.Codeset]:
    """A page of codesets. Raises NotFoundError for an unknown project."""
    with deps.store.read() as session:
        if project:
            codesets.project(session, project)
        return codesets.codesets(session, paging.Page(limit, cursor), project=project)


def get_codeset(deps: Deps, project: str, name: str) -> codesets.Codeset:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return codesets.codeset(session, project, name)


def register_codeset(
    deps: Deps, project: str, name: str, description: str, labels: Sequence[str], *, begins: bool = False
) -> tuple[codesets.Codeset, str, str]:
    """The codeset with the user name and password that git pushes with; with `begins` its repository has a commit. Raises InvalidError.

    Raises ConflictError for a copy of another repository. The repository comes first and its webhook last, with the stored secret: the next call repairs a crash in between, and two
    registrations at the same time agree on the secrets. A codeset that is registered anew after its deletion has new ones.
    """
    document.check_identifier("project", project)
    document.check_identifier("name", name)
    for label in labels:
        document.check_identifier("labels", label)
    origins.expect_own(deps, project, name)
    return _register(deps, project, name, description, labels, begins=begins, is_copy=False)


def _register(
    deps: Deps, project: str, name: str, description: str, labels: Sequence[str], *, begins: bool, is_copy: bool
) -> tuple[codesets.Codeset, str, str]:
    deps.git.create_repository(project, name)
    # Before the webhook is there: the push is published here.
    first = deps.git.begin(project, name, f"# {name}\n\n{description}".rstrip() + "\n") if begins else None
    with deps.store.write() as session:
        row = codesets.find_codeset(session, project, name)
        if (stored_origins.find(session, project, name) is not None) is not is_copy:
            # Else the commits of one would be overwritten by the origin of the other.
            raise errors.ConflictError(
                f"the codeset {project}/{name} was registered or deleted meanwhile; choose another name, or try again"
            )
        if row is None:
            codesets.ensure_project(session, project, clock.now())
            row = codesets.Codeset(
                project=project,
                name=name,
                description=description,
                labels=list(dict.fromkeys(labels)),
                url=deps.git.clone_url(project, name),
                webhook_secret=deps.keyring.seal(secrets.new_webhook_secret()),
                git_password=deps.keyring.seal(git_access.new_password()),
                created=clock.now(),
            )
            codesets.add_codeset(session, row)
            payloads: list[events.Payload] = [events.CodesetRegistered(project=project, codeset=name, url=row.url)]
        else:
            codesets.update_codeset(session, row, labels=list(dict.fromkeys([*row.labels, *labels])), url=deps.git.clone_url(project, name))
            payloads = []
        if first is not None:
            # Now, so that workflows which are assigned later do not start because of it.
            payloads += filter(None, [moves.find(session, row, _pushed(row, first), clock.now())])
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    deps.git.sign_webhooks(project, name, deps.keyring.unseal(row.webhook_secret))
    password = git_access.password(deps.keyring, row)
    return row, deps.git.replace_push(project, name, password), password


def register_copy(
    deps: Deps, project: str, name: str, description: str, labels: Sequence[str], *, url: str, host: str, vcs: str
) -> tuple[codesets.Codeset, origins.Webhook]:
    """The codeset that follows the repository at `url`, and the webhook there. A second call repairs a crash, and sets up the webhook again.

    Raises InvalidError for the names or the address, ConflictError for a codeset that is not a copy of this repository, or is none
    any more at the end.
    """
    document.check_identifier("project", project)
    document.check_identifier("name", name)
    for label in labels:
        document.check_identifier("labels", label)
    origin, service = origins.describe(deps, project, url, host, vcs)
    # The origin first: a codeset without one takes pushes of people.
    origins.add(deps, project, name, origin, service)
    row, _, _ = _register(deps, project, name, description, labels, begins=False, is_copy=True)
    origins.request(deps, project, name)
    webhook = origins.set_up_webhook(deps, project, name)
    if webhook is None:
        raise errors.ConflictError(f"the codeset {project}/{name} was deleted or registered otherwise meanwhile; register it again")
    return row, webhook


def _pushed(codeset: codesets.Codeset, push: githosts.Push) -> events.CodesetPushed:
    return events.CodesetPushed(
        project=codeset.project,
        codeset=codeset.name,
        ref=push.ref,
        before=push.before,
        commit=push.commit,
        pusher=push.pusher,
        registered=codeset.created,
    )


def rotate_webhook(deps: Deps, project: str, name: str, *, revoke: bool, by: str) -> tuple[str, str]:
    """A new secret for the codeset's webhooks, and the end of the old one's validity. Raises NotFoundError.

    The git host gets the secret at once. Deliveries with the old secret stay valid meanwhile, also while the host does not answer; with
    `revoke` they end now, and the sweep finds the pushes of deliveries that are refused because of it.
    """
    secret, until = secrets.new_webhook_secret(), clock.now() if revoke else clock.ahead(secrets.WEBHOOK_OVERLAP)
    with deps.store.write() as session:
        row = codesets.codeset(session, project, name)
        webhooks.replace_of_codeset(session, row, deps.keyring.seal(secret), until)
        if revoke:
            webhooks.revoke_former(session, row)
        enqueued = cloudevents.enqueue(session, events.CodesetRotated(project=project, codeset=name, kind="webhook", revoked=revoke, by=by))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    deps.git.sign_webhooks(project, name, secret)
    # The one that people enter is that of the repository elsewhere.
    return origins.rotate(deps, project, name, revoke=revoke) or secret, until


def rotate_password(deps: Deps, project: str, name: str, by: str) -> tuple[codesets.Codeset, str, str]:
    """A new password of the codeset; the former one ends now. Raises NotFoundError. Returns what `register_codeset` does.

    After a crash before the git host has the new password, the next call, or the next registration, repairs it.
    """
    password = git_access.new_password()
    with deps.store.read() as session:
        origin = stored_origins.find(session, project, name)
    if origin is not None:
        raise errors.ConflictError(f"the codeset {project}/{name} is a copy; git pushes to its origin, {origin.url}")
    with deps.store.write() as session:
        row = codesets.codeset(session, project, name)
        codesets.replace_password(session, row, deps.keyring.seal(password))
        enqueued = cloudevents.enqueue(session, events.CodesetRotated(project=project, codeset=name, kind="password", revoked=True, by=by))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return row, deps.git.replace_push(project, name, password), password


def delete_codeset(deps: Deps, project: str, name: str) -> None:
    """Raises NotFoundError."""
    get_codeset(deps, project, name)
    origins.leave(deps, project, name)
    # The repository first: after a crash in between the codeset can be deleted again; a new codeset must not get an old repository.
    deps.git.delete_repository(project, name)
    with deps.store.write() as session:
        codesets.delete_codeset(session, project, name)
        webhooks.forget_codeset(session, project, name)
        stored_origins.forget(session, project, name)
        enqueued = cloudevents.enqueue(session, events.CodesetRemoved(project=project, codeset=name))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
