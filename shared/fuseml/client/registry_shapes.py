"""Documents of the registry, of resolution, and of the impact of a change, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import Required, TypedDict

from fuseml.client.shapes import Binding


class Health(TypedDict, total=False):
    """The result of the latest health checks; `seen` is the time of the last successful one, `cause` the error of the last failed one."""

    state: Required[str]
    since: Required[str]
    seen: str
    cause: str


class Status(TypedDict, total=False):
    """Times of a record, set by the server."""

    registered: str | None
    updated: str | None


class EndpointStatus(TypedDict, total=False):
    """Times and health of an endpoint, set by the server."""

    registered: str | None
    updated: str | None
    health: Health | None


class CredentialsStatus(TypedDict, total=False):
    """Times and health of credentials, set by the server."""

    created: str | None
    updated: str | None
    health: Health | None


class Endpoint(TypedDict, total=False):
    """A URL of a service; `type` is internal or external."""

    url: Required[str]
    extension_id: str
    service_id: str
    type: str
    configuration: dict[str, str]
    status: EndpointStatus


class Credentials(TypedDict, total=False):
    """Credentials of a service. The values of `configuration` are `<hidden>`; sent back, they keep the stored values. A step gets the values
    of the keys in `files` as files at these paths.
    """

    id: str
    extension_id: str
    service_id: str
    default: bool
    scope: str
    projects: list[str]
    users: list[str]
    configuration: dict[str, str]
    files: dict[str, str]
    status: CredentialsStatus


class Service(TypedDict, total=False):
    """A service of an extension: its protocol (`resource`), purpose (`category`), endpoints and credentials."""

    id: str
    extension_id: str
    resource: str
    category: str
    auth_required: bool
    description: str
    configuration: dict[str, str]
    endpoints: list[Endpoint]
    credentials: list[Credentials]
    status: Status


class Extension(TypedDict, total=False):
    """A registered tool with all its parts."""

    id: str
    product: str
    version: str
    description: str
    zone: str
    configuration: dict[str, str]
    services: list[Service]
    status: Status
    revision: int


class Proposal(TypedDict, total=False):
    """A record proposed for the tool at a URL. `state` is new, registered (just now), known or unknown; `message` has the reason."""

    url: Required[str]
    state: Required[str]
    id: str
    extension: Extension | None
    message: str


class Webhook(TypedDict, total=False):
    """The webhook of a tracking server: FuseML's URL, and the secret that signs deliveries. `registered`: the tracking server has it."""

    url: Required[str]
    secret: Required[str]
    former_until: str | None
    registered: bool


class RotationResult(TypedDict):
    """The number of values sealed anew; `unreadable` names the records whose values no key opens."""

    credentials: int
    webhook_secrets: int
    unreadable: list[str]


class Selector(TypedDict, total=False):
    """Criteria for one service, and for credentials of it."""

    name: str
    extension_id: str
    service_id: str
    product: str
    version: str
    zone: str
    service_resource: str
    service_category: str
    ambiguity: str
    healthy: bool | None


class Consumer(TypedDict, total=False):
    """The project, user and zone that a selector is resolved for."""

    project: str
    user: str
    zone: str


class ResolvedBinding(Binding):
    """A binding with the environment that a step receives; secret values are `<hidden>`."""

    env: dict[str, str]


class Candidate(TypedDict, total=False):
    """A candidate of a selector; `verdict` is chosen, eligible or rejected, `sentence` the reason."""

    extension_id: Required[str]
    service_id: str
    url: str
    credentials_id: str
    verdict: Required[str]
    rule: Required[str]
    sentence: Required[str]


class Explanation(TypedDict, total=False):
    """All candidates of a selector; `omitted` counts those left out."""

    selector: Required[str]
    candidates: Required[list[Candidate]]
    omitted: int


class Resolution(TypedDict):
    """One binding for each selector."""

    bindings: list[ResolvedBinding]
    explanations: list[Explanation]


class FieldChange(TypedDict, total=False):
    """A change of a record's field. `effect` is appears, vanishes or changes; the values of a secret are `<hidden>`."""

    effect: Required[str]
    secret: bool
    before: str
    after: str
    path: Required[str]


class KeyChange(TypedDict, total=False):
    """A change of a variable in a step's environment; otherwise as `FieldChange`."""

    effect: Required[str]
    secret: bool
    before: str
    after: str
    key: Required[str]


class Target(TypedDict, total=False):
    """The service, URL and credentials that a selector is bound to."""

    extension_id: Required[str]
    service_id: Required[str]
    url: Required[str]
    credentials_id: str


class Effect(TypedDict, total=False):
    """The effect on one selector; `effect` is unchanged, changes, rebinds, breaks or resolves."""

    workflow: Required[str]
    revision: Required[int]
    assigned: Required[bool]
    project: Required[str]
    user: Required[str]
    step: Required[str]
    selector: Required[str]
    effect: Required[str]
    before: Target | None
    after: Target | None
    environment: list[KeyChange]
    reason: str
    sentence: Required[str]


class Impact(TypedDict):
    """The impact of a change of a record; `change` is registers, updates, removes or none."""

    extension_id: str
    change: str
    revision: int
    changes: list[FieldChange]
    effects: list[Effect]
    summary: str
