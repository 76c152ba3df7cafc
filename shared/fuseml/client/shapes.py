"""What travels over the API, as dictionaries with known keys.

All keys are optional for the type checker where a server may leave them out; unknown keys are kept. Times are RFC 3339 texts,
durations seconds.
"""

from __future__ import annotations

from typing import TypedDict


class User(TypedDict, total=False):
    name: str
    email: str


class Project(TypedDict, total=False):
    name: str
    description: str
    users: list[User]


class Codeset(TypedDict, total=False):
    name: str
    project: str
    description: str
    labels: list[str]
    url: str


class Registration(TypedDict, total=False):
    """A registered codeset with the credentials for pushing to it; they are absent when they were handed out before."""

    codeset: Codeset
    username: str
    password: str


class Parameter(TypedDict, total=False):
    """An input or output of a workflow."""

    name: str
    description: str
    type: str
    default: str


class Step(TypedDict, total=False):
    name: str
    image: str


class Workflow(TypedDict, total=False):
    name: str
    description: str
    created: str
    revision: int
    inputs: list[Parameter]
    outputs: list[Parameter]
    steps: list[Step]
    on: dict[str, object]


class Revision(TypedDict, total=False):
    revision: int
    created: str


class Finding(TypedDict, total=False):
    """What lint has to say; `level` is error or warning."""

    level: str
    path: str
    message: str
    line: int | None
    column: int | None
    suggestion: str | None


class RunWish(TypedDict, total=False):
    """What a run is asked for with; what is empty is left to the server. `until` and `only` name a step."""

    project: str
    codeset: str
    commit: str
    inputs: dict[str, str]
    until: str
    only: str
    no_cache: bool


class Availability(TypedDict, total=False):
    available: bool
    URL: str


class Assignment(TypedDict, total=False):
    workflow: str
    codesets: list[Codeset]
    status: Availability | None


class Approval(TypedDict):
    """What people were asked before a step could begin, and their answer: approved, rejected, or expired, which is nobody's."""

    message: str
    asked: str
    deadline: str | None
    decision: str | None
    by: str | None
    decided: str | None
    comment: str


class StepRun(TypedDict, total=False):
    name: str
    image: str
    state: str
    started: str | None
    finished: str | None
    duration: float | None
    attempts: int
    cause: str | None
    outputs: dict[str, str]
    reused_from: str | None
    not_reused: str | None
    approval: Approval | None
    log: str | None


class Binding(TypedDict, total=False):
    """What one selector resolved to. `env` and `secret_keys` come from `/resolve` only, secrets as `<hidden>`."""

    step: str
    name: str
    extension_id: str
    service_id: str
    service_resource: str
    service_category: str
    credentials_id: str | None
    credentials_scope: str | None
    product: str
    version: str
    zone: str
    url: str
    endpoint_type: str
    env: dict[str, str]
    secret_keys: list[str]
    revision: int
    ambiguous_with: list[str]


class Trigger(TypedDict, total=False):
    kind: str
    event: str | None
    artifact: str
    due: str
    action: str
    of: str | None


class Run(TypedDict, total=False):
    name: str
    id: str
    workflow: str
    revision: int
    project: str
    codeset: str
    commit: str
    state: str
    cause: str | None
    created: str
    started: str | None
    finished: str | None
    trigger: Trigger
    request: str | None
    caused_by: str | None
    settled: bool
    concurrency_group: str | None
    waits_for: str | None
    inputs: dict[str, str]
    outputs: dict[str, str]
    steps: list[StepRun]
    bindings: list[Binding]


class Resource(TypedDict):
    name: str
    kind: str


class Share(TypedDict):
    """A revision of an application that gets `percent` of the requests, and the model that it serves."""

    revision: int
    percent: int
    model: str | None


class Application(TypedDict, total=False):
    name: str
    type: str
    description: str
    url: str
    workflow: str
    k8s_namespace: str
    k8s_resources: list[Resource]
    project: str | None
    codeset: str | None
    run: str | None
    model: str | None
    runtime: str | None
    traffic: list[Share]
    status: str | None
    cause: str | None
    revision: int | None


class Artifact(TypedDict, total=False):
    address: str
    kind: str
    project: str
    name: str
    version: str
    run: str | None
    metadata: dict[str, object]
    created: str


class Edge(TypedDict):
    """`target` was made from `source` by `run`."""

    source: str
    target: str
    run: str


class Endpoint(TypedDict, total=False):
    url: str
    extension_id: str
    service_id: str
    type: str
    configuration: dict[str, str]


class Credentials(TypedDict, total=False):
    id: str
    extension_id: str
    service_id: str
    default: bool
    scope: str
    projects: list[str]
    users: list[str]
    configuration: dict[str, str]


class Service(TypedDict, total=False):
    id: str
    extension_id: str
    resource: str
    category: str
    description: str
    auth_required: bool
    configuration: dict[str, str]
    endpoints: list[Endpoint]
    credentials: list[Credentials]


class Extension(TypedDict, total=False):
    id: str
    product: str
    version: str
    description: str
    zone: str
    configuration: dict[str, str]
    services: list[Service]
    revision: int


class Proposal(TypedDict, total=False):
    """What was found at an address. `state` is new, registered (just now), known or unknown; see `message`."""

    url: str
    state: str
    id: str
    extension: Extension | None
    message: str


class Webhook(TypedDict, total=False):
    """A webhook to us. `url` and `registered` are those of a tracking server's."""

    url: str
    secret: str
    former_until: str | None
    registered: bool


class Rotation(TypedDict):
    """How many values were sealed anew; `unreadable` names what holds values that no key opens."""

    credentials: int
    webhook_secrets: int
    unreadable: list[str]


class Selector(TypedDict, total=False):
    name: str
    extension_id: str
    service_id: str
    product: str
    version: str
    zone: str
    service_resource: str
    service_category: str
    ambiguity: str


class Consumer(TypedDict, total=False):
    """Who asks for a binding, from where."""

    project: str
    user: str
    zone: str


class Resolution(TypedDict, total=False):
    bindings: list[Binding]
    explanations: list[dict[str, object]]


class Component(TypedDict, total=False):
    status: str
    url: str | None
    message: str | None


class Readiness(TypedDict, total=False):
    status: str
    components: dict[str, Component]
