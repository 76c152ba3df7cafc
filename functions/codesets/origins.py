"""Use cases about the origins of codesets: registration of a repository elsewhere, its webhook, and the state of both."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from functions.codesets.deps import Deps
from fuseml.domain import errors, events, origins
from fuseml.githosts.origins import Access, OriginHost, webhook_setup
from fuseml.runtime import clock, cloudevents, secrets
from fuseml.store import codesets, commit_statuses, webhooks
from fuseml.store import origins as stored
from fuseml.usecases import origins as usecase

_log = logging.getLogger("fuseml.codesets")

_PROBLEM = 500
# Seconds until the sweep synchronises a codeset whose registration was interrupted.
_REGISTRATION = 60
_EVENTS = ("push", "tags", "pull requests")


@dataclass(frozen=True, slots=True)
class Webhook:
    """The webhook of an origin: its address, the fields of the host's form, and its state. `secret` is empty unless a person must enter it."""

    url: str
    secret_field: str
    events: tuple[str, ...]
    content_type: str
    state: str
    problem: str
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What is set up for a codeset, and what is missing, as sentences."""

    codeset: codesets.Codeset
    origin: stored.CodesetOrigin | None
    webhook: Webhook | None
    access: Access | None
    statuses: list[commit_statuses.CommitStatus]
    missing: list[str]


def expect_own(deps: Deps, project: str, name: str) -> None:
    """Raises ConflictError for a codeset that is a copy: only its origin changes it.

    What an interrupted registration of a copy has left without a codeset is removed.
    """
    with deps.store.read() as session:
        row, origin = codesets.find_codeset(session, project, name), stored.find(session, project, name)
    if origin is None:
        return
    if row is not None:
        raise errors.ConflictError(f"the codeset {project}/{name} is a copy; git pushes to its origin, {origin.url}")
    with deps.store.write() as session:
        if codesets.find_codeset(session, project, name) is None:
            stored.forget(session, project, name)


def describe(deps: Deps, project: str, url: str, host: str, vcs: str) -> tuple[origins.Origin, usecase.Service]:
    """The origin at an address, and its registered git host. Raises InvalidError, UnresolvedError."""
    origins.read(url)
    with deps.store.read() as session:
        service = usecase.choose(session, url, vcs, project=project, zone=deps.zone)
    return origins.read(url, endpoint=service.url, product=host or service.product), service


def add(deps: Deps, project: str, name: str, origin: origins.Origin, service: usecase.Service) -> None:
    """Store the origin of a codeset. Raises ConflictError for a codeset that exists and is not a copy of this repository."""
    with deps.store.write() as session:
        known = stored.find(session, project, name)
        if known is None and codesets.find_codeset(session, project, name) is not None:
            # Its own commits would be overwritten.
            raise errors.ConflictError(f"the codeset {project}/{name} exists, and is no copy of another repository; choose another name")
        if known is not None and known.url != origin.url:
            raise errors.ConflictError(f"the codeset {project}/{name} is a copy of {known.url}; delete it, or choose another name")
        if known is None:
            known = stored.CodesetOrigin(
                project=project,
                codeset=name,
                url=origin.url,
                host=origin.host,
                base=origin.base,
                path=origin.path,
                secret=deps.keyring.seal(secrets.new_webhook_secret()),
                due=clock.ahead(_REGISTRATION),
                created=clock.now(),
            )
        known.host, known.base, known.path = origin.host, origin.base, origin.path
        known.extension, known.service = service.extension, service.service
        stored.save(session, known)


def request(deps: Deps, project: str, name: str) -> None:
    """Make the synchronisation of a registered codeset due, and publish it."""
    now = clock.now()
    with deps.store.write() as session:
        stored.request(session, project, name, now)
        report = events.CodesetReported(project=project, codeset=name, delivery=f"registered-{now}", change="registration")
        enqueued = cloudevents.enqueue(session, report)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def set_up_webhook(deps: Deps, project: str, name: str) -> Webhook | None:
    """Set the webhook up at the host where the token may, and say what a person must enter where it may not; None without an origin.

    Its secret is returned where a person must enter it.
    """
    with deps.store.read() as session:
        row = stored.find(session, project, name)
    if row is None:
        return None
    host, problem = _host(deps, row)
    secret = deps.keyring.unseal(row.secret)
    address = usecase.address(deps.public_url, project, name)
    state = "manual"
    if host is None:
        state, problem = ("none", "") if row.host == "git" else ("manual", problem)
    else:
        try:
            webhook_setup.ensure(host, address, secret)
            state, problem = "set", ""
        except errors.FusemlError as error:
            problem = error.message
    with deps.store.write() as session:
        present = stored.find(session, project, name)
        if present is not None:
            present.webhook, present.webhook_problem = state, problem[:_PROBLEM]
            stored.save(session, present)
    return _webhook(row, host, address, state, problem, webhook_setup.target(address, secret), secret if state == "manual" else "")


def _webhook(
    row: stored.CodesetOrigin, host: OriginHost | None, address: str, state: str, problem: str, target: str, secret: str
) -> Webhook:
    form = host.form if host is not None else None
    field, names = (form.secret, tuple(form.events)) if form else (("Secret token" if row.host == "gitlab" else "Secret"), _EVENTS)
    return Webhook(target if state != "none" else address, field, names, "application/json", state, problem, secret)


def _host(deps: Deps, row: stored.CodesetOrigin) -> tuple[OriginHost | None, str]:
    """The client of the origin's host, and the reason why there is none."""
    try:
        with deps.store.read() as session:
            account = usecase.account(session, deps.keyring, row, deps.zone)
    except errors.FusemlError as error:
        return None, error.message
    if not account.password:
        return None, "no registered git host with a token covers the address (`fuseml extension add`, category VCS)"
    return deps.origin_hosts(usecase.of_row(row), account.password), ""


def rotate(deps: Deps, project: str, name: str, *, revoke: bool) -> str | None:
    """Replace the secret of the origin's webhook, also at its host; returns it, or None without an origin."""
    secret, until = secrets.new_webhook_secret(), clock.now() if revoke else clock.ahead(secrets.WEBHOOK_OVERLAP)
    with deps.store.write() as session:
        row = stored.find(session, project, name)
        if row is None:
            return None
        webhooks.replace_of_origin(session, row, deps.keyring.seal(secret), until)
        if revoke:
            webhooks.revoke_former(session, codesets.codeset(session, project, name))
    set_up_webhook(deps, project, name)
    return secret


def leave(deps: Deps, project: str, name: str) -> None:
    """Remove the webhook from the host of a codeset that is deleted. A host that is away keeps it; its deliveries are refused."""
    with deps.store.read() as session:
        row = stored.find(session, project, name)
    if row is None or row.webhook != "set":
        return
    host, problem = _host(deps, row)
    try:
        if host is not None:
            webhook_setup.remove(host, usecase.address(deps.public_url, project, name))
    except errors.FusemlError as error:
        problem = error.message
    if problem:
        _log.warning("the webhook of %s/%s stays at %s: %s", project, name, row.url, problem)


def status(deps: Deps, project: str, name: str) -> Status:
    """What is set up for a codeset, as its origin's host describes it now. Raises NotFoundError."""
    with deps.store.read() as session:
        codeset = codesets.codeset(session, project, name)
        row = stored.find(session, project, name)
        shown = list(commit_statuses.of_codeset(session, project, name))
    missing: list[str] = []
    if row is None:
        return Status(codeset, None, None, None, shown, [*missing, *_unsent(shown)])
    access, webhook = _look(deps, row, missing)
    if not row.synced:
        missing.append(f"no synchronisation has succeeded yet{f': {row.problem}' if row.problem else ''}")
    elif row.problem:
        missing.append(f"the last synchronisation failed: {row.problem}")
    if row.refused > row.delivered:
        missing.append(f"the last delivery of the webhook was refused: {row.refusal}")
    return Status(codeset, row, webhook, access, shown, [*missing, *_unsent(shown)])


def _look(deps: Deps, row: stored.CodesetOrigin, missing: list[str]) -> tuple[Access | None, Webhook | None]:
    host, problem = _host(deps, row)
    address = usecase.address(deps.public_url, row.project, row.codeset)
    secret = deps.keyring.unseal(row.secret)
    target = webhook_setup.target(address, secret)
    if row.host == "git":
        missing.append("the host has no API that FuseML knows: it is asked regularly, and gets no commit status; --host names its product")
        return None, _webhook(row, None, address, "none", "", target, "")
    if host is None:
        missing += [problem, "no commit status is sent"]
        state = "set" if row.delivered else "unknown"
        if not row.delivered:
            missing.append(f"no delivery of a webhook has arrived; enter one at the host, for {target}")
        return None, _webhook(row, None, address, state, row.webhook_problem or problem, target, "")
    try:
        access = host.access()
    except errors.FusemlError as error:
        access = Access(True, False, False, False, error.message)
        missing.append(error.message)
    if access.read and not access.statuses:
        missing.append("the token may not set commit statuses")
    try:
        found = webhook_setup.look(host, address, secret)
        state, problem = found.state, found.problem
        if state != "set":
            missing.append(f"the webhook is {state}{f': {problem}' if problem else ''}; `fuseml codeset register --url` sets it up again")
    except errors.FusemlError as error:
        state, problem = ("set" if row.delivered else "unknown"), error.message
        if not row.delivered:
            missing.append(f"the token may not see webhooks, and no delivery has arrived; enter one at the host, for {target}")
    return access, _webhook(row, host, address, state, problem, target, "")


def _unsent(rows: list[commit_statuses.CommitStatus]) -> list[str]:
    waiting = [row for row in rows if not row.sent and row.problem]
    return [f"{len(waiting)} commit statuses have not reached the host: {waiting[0].problem}"] if waiting else []
