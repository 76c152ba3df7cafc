"""HTTP of `codesets`: parameters in, wire models out."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from functions.codesets import origins, service
from functions.codesets.deps import Deps
from fuseml.runtime import clients, http, operations

Name = Annotated[str, pydantic.Field(description="letters, digits, '-' and '_', at most 100")]


class Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)


class User(Wire):
    name: str
    email: str


class Project(Wire):
    name: str
    description: str
    users: list[User] = []


class Codeset(Wire):
    name: str
    project: str
    description: str
    labels: list[str]
    url: str


class Registration(Wire):
    """The codeset and the account with which git pushes to it over HTTP."""

    codeset: Codeset
    username: str
    password: str


class OriginWebhook(Wire):
    """The webhook of an origin.

    `state` is `set`, `failing`, `stale` (switched off, or with a former secret), `missing`, `manual` (a person must enter it), `unknown`, or
    `none` for a host without an API. `secret_field` and `events` are the names in the host's form.
    """

    url: str
    state: str
    problem: str
    content_type: str
    secret_field: str
    events: list[str]


class NewOriginWebhook(OriginWebhook):
    """`secret` is empty unless a person must enter it."""

    secret: str


class CopyRegistration(Wire):
    """A codeset that follows a repository elsewhere, and the webhook there."""

    codeset: Codeset
    webhook: NewOriginWebhook


class OriginAccess(Wire):
    """The rights of the account at the origin's host: to read, to manage webhooks, to set commit statuses."""

    read: bool
    webhooks: bool
    statuses: bool
    problem: str


class OriginStatus(Wire):
    """The repository elsewhere that a codeset follows.

    `host` is its product, `vcs` the registered service with the account, empty for none. The times are empty before the first time: of the last
    synchronisation that succeeded, of the last one at all, of the next one, and of the last genuine delivery, which reported `delivery`.
    """

    url: str
    host: str
    vcs: str
    synced: str
    checked: str
    due: str
    problem: str
    delivered: str
    delivery: str
    refused: str
    refusal: str


class CommitStatus(Wire):
    """A commit status: `sent` once the git host has it; else `problem` is the last fault."""

    context: str
    commit: str
    run: str
    state: str
    description: str
    sent: bool
    problem: str
    updated: str


class CodesetStatus(Wire):
    """What is set up for a codeset. `missing` says what is not, as sentences. Without an origin `origin`, `webhook` and `access` are null."""

    name: str
    project: str
    url: str
    origin: OriginStatus | None
    webhook: OriginWebhook | None
    access: OriginAccess | None
    statuses: list[CommitStatus]
    missing: list[str]


class NewSecret(Wire):
    """A secret that is not shown again; the replaced one is accepted until `former_until` (RFC 3339)."""

    secret: str
    former_until: str


class NewProject(operations.Query):
    name: Name
    description: Annotated[str, pydantic.Field(max_length=1000)] = ""


class NewCodeset(operations.Query):
    name: Name
    project: Name
    description: Annotated[str, pydantic.Field(max_length=1000)] = ""
    labels: list[str] = []
    initial_commit: Annotated[
        bool | None,
        pydantic.Field(
            description="commit a README to an empty repository, because some git clients cannot clone one; by default only without the header "
            "`Fuseml-Client`, for clients of the original's API"
        ),
    ] = None


class NewCopy(operations.Query):
    url: Annotated[str, pydantic.Field(max_length=2000, description="the address for `git clone`, over HTTP(S), without an account")]
    description: Annotated[str, pydantic.Field(max_length=1000)] = ""
    labels: list[str] = []
    host: Annotated[
        Literal["", "gitea", "forgejo", "github", "gitlab", "git"],
        pydantic.Field(description="the product of the host; by default that of the registered service, or of a known public host"),
    ] = ""
    vcs: Annotated[
        str,
        pydantic.Field(
            max_length=201, description="EXTENSION or EXTENSION/SERVICE of the registered git host; by default one that covers the address"
        ),
    ] = ""


class CodesetQuery(operations.PageQuery):
    project: str | None = None
    label: str | None = None


class Rotation(operations.Query):
    revoke: bool = pydantic.Field(False, description="end the replaced secrets now instead of after a day")


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/projects", query=operations.PageQuery, returns=[Project])
    def list_projects(query: operations.PageQuery) -> http.ListPage[Project]:
        """List projects, by name."""
        page = service.list_projects(deps, query.limit, query.cursor)
        return http.ListPage([Project.model_validate(row) for row in page.rows], page.next_cursor)

    @api.route("POST", "/projects", query=NewProject, returns=Project, status=201, refusals=(409,))
    def create_project(query: NewProject) -> Project:
        """Create a project."""
        return Project.model_validate(service.create_project(deps, query.name, query.description))

    @api.route("GET", "/projects/<name>", returns=Project)
    def get_project(name: str) -> Project:
        """Show a project."""
        return Project.model_validate(service.get_project(deps, name))

    @api.route("DELETE", "/projects/<name>", status=204, refusals=(409,))
    def delete_project(name: str) -> None:
        """Delete a project that has no codesets."""
        service.delete_project(deps, name)

    @api.route("GET", "/codesets", query=CodesetQuery, returns=[Codeset], refusals=(404,))
    def list_codesets(query: CodesetQuery) -> http.ListPage[Codeset]:
        """List codesets, by project and name."""
        page = service.list_codesets(deps, query.project, query.limit, query.cursor)
        labelled = [row for row in page.rows if not query.label or query.label in row.labels]
        return http.ListPage([Codeset.model_validate(row) for row in labelled], page.next_cursor)

    @api.route("POST", "/codesets", query=NewCodeset, returns=Registration, status=201, refusals=(409,))
    def register_codeset(query: NewCodeset) -> Registration:
        """Register a codeset: create its git repository, or add labels to an existing one. A missing project is created."""
        begins = clients.is_original() if query.initial_commit is None else query.initial_commit
        row, username, password = service.register_codeset(deps, query.project, query.name, query.description, query.labels, begins=begins)
        return Registration(codeset=Codeset.model_validate(row), username=username, password=password)

    @api.route("GET", "/codesets/<project>/<name>", returns=Codeset)
    def get_codeset(project: str, name: str) -> Codeset:
        """Show a codeset."""
        return Codeset.model_validate(service.get_codeset(deps, project, name))

    @api.route("POST", "/codesets/<project>/<name>/origin", query=NewCopy, returns=CopyRegistration, status=201, refusals=(409, 422))
    def register_copy(project: str, name: str, query: NewCopy) -> CopyRegistration:
        """Register a codeset that follows a repository elsewhere: a copy of its branches and tags. A missing project is created.

        The webhook at the host is set up where the account may; else the answer has what a person enters there.
        """
        row, webhook = service.register_copy(
            deps, project, name, query.description, query.labels, url=query.url, host=query.host, vcs=query.vcs
        )
        return CopyRegistration(codeset=Codeset.model_validate(row), webhook=NewOriginWebhook.model_validate(webhook))

    @api.route("GET", "/codesets/<project>/<name>/status", returns=CodesetStatus)
    def get_codeset_status(project: str, name: str) -> CodesetStatus:
        """Show what is set up for a codeset, and what is missing. The host of its origin is asked now."""
        return _status(origins.status(deps, project, name))

    @api.route("POST", "/codesets/<project>/<name>/webhook", query=Rotation, returns=NewSecret)
    def rotate_codeset_webhook(project: str, name: str, query: Rotation) -> NewSecret:
        """Replace the secret of the codeset's webhooks, also on the git host. It is shown once, for webhooks made by hand."""
        secret, until = service.rotate_webhook(deps, project, name, revoke=query.revoke, by=http.caller().name)
        return NewSecret(secret=secret, former_until=until)

    @api.route("POST", "/codesets/<project>/<name>/password", returns=Registration, refusals=(409,))
    def rotate_codeset_password(project: str, name: str) -> Registration:
        """Replace the password with which git reads and pushes the codeset. The former one ends at once."""
        row, username, password = service.rotate_password(deps, project, name, http.caller().name)
        return Registration(codeset=Codeset.model_validate(row), username=username, password=password)

    @api.route("DELETE", "/codesets/<project>/<name>", status=204)
    def delete_codeset(project: str, name: str) -> None:
        """Delete a codeset with its repository and assignments; runs and artifacts stay.

        Without the header `Fuseml-Client`, as clients of the original's API send it, a missing codeset is no error.
        """
        with clients.deletion():
            service.delete_codeset(deps, project, name)


def _status(found: origins.Status) -> CodesetStatus:
    origin = found.origin
    vcs = f"{origin.extension}/{origin.service}" if origin is not None and origin.extension else ""
    return CodesetStatus(
        name=found.codeset.name,
        project=found.codeset.project,
        url=found.codeset.url,
        origin=OriginStatus.model_validate({**origin.model_dump(), "vcs": vcs}) if origin is not None else None,
        webhook=OriginWebhook.model_validate(found.webhook) if found.webhook else None,
        access=OriginAccess.model_validate(found.access) if found.access else None,
        statuses=[CommitStatus.model_validate(row) for row in found.statuses],
        missing=found.missing,
    )
