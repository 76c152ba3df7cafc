"""Documents of the API, except those of the registry and of events, as dictionaries with known keys.

A test holds every shape equal to the server's OpenAPI document: keys, required keys and types. A newer server may add keys; they pass
through. Times are RFC 3339 texts, durations seconds.
"""

from __future__ import annotations

from typing import Required, TypedDict

from fuseml.client.store_shapes import ArtifactCopy


class User(TypedDict):
    """A member of a project."""

    name: str
    email: str


class Project(TypedDict, total=False):
    """A tenant: owner of codesets, runs and artifacts."""

    name: Required[str]
    description: Required[str]
    users: list[User]


class Codeset(TypedDict):
    """A git repository of ML code; `url` is the address for git."""

    name: str
    project: str
    description: str
    labels: list[str]
    url: str


class Registration(TypedDict):
    """A registered codeset with the credentials for pushing to it."""

    codeset: Codeset
    username: str
    password: str


class WebhookSecret(TypedDict):
    """The new secret of a codeset's webhooks; the former secret stays valid until `former_until`."""

    secret: str
    former_until: str


class Input(TypedDict, total=False):
    """An input of a workflow."""

    name: Required[str]
    description: str
    type: str
    default: str | float | bool | None
    labels: list[str]


class Output(TypedDict, total=False):
    """An output of a workflow."""

    name: Required[str]
    description: str
    type: str


class Step(TypedDict, total=False):
    """A step of a workflow's document; the JSON Schema of workflow documents describes the nested parts."""

    name: Required[str]
    image: str
    runnable: str
    inputs: list[dict[str, object]]
    outputs: list[dict[str, object]]
    extensions: list[dict[str, object]]
    env: list[dict[str, object]]
    resources: dict[str, object]
    needs: list[str]
    when: list[dict[str, object]]
    matrix: dict[str, object] | None
    retries: int
    timeout: int | str | None
    command: list[str | float | bool]
    args: list[str | float | bool]
    script: str
    approval: dict[str, object] | None
    cache: bool | dict[str, object] | None


class Workflow(TypedDict, total=False):
    """A revision of a workflow: its document, the revision's number and time."""

    name: Required[str]
    description: str
    inputs: list[Input]
    outputs: list[Output]
    steps: Required[list[Step]]
    on: dict[str, object] | None
    deploy: dict[str, object] | None
    concurrency: dict[str, object] | None
    timeout: int | str | None
    template: str
    created: Required[str]
    revision: Required[int]


class Revision(TypedDict):
    """A revision of a workflow, without its document."""

    revision: int
    created: str


class Finding(TypedDict):
    """A finding of lint; `level` is error, warning or note."""

    level: str
    path: str
    message: str
    line: int | None
    column: int | None
    suggestion: str | None


class DryRun(TypedDict):
    """The document of a workflow that would be stored, null if it has errors, and the findings."""

    workflow: dict[str, object] | None
    findings: list[Finding]


class RunRequest(TypedDict, total=False):
    """A request for a run of a workflow; the server chooses a value for each absent or empty field. `until` and `only` name a step."""

    project: str
    codeset: str | None
    commit: str | None
    inputs: dict[str, str]
    until: str | None
    only: str | None
    no_cache: bool


class RunFilters(TypedDict, total=False):
    """Filters of lists of runs; a run matches all that are given.

    `request` is the id that `start`, `rerun` and `resume` return; `caused_by` is the run whose artifacts started the run.
    """

    workflow: str | None
    project: str | None
    codeset: str | None
    state: str | None
    commit: str | None
    request: str | None
    caused_by: str | None


class Availability(TypedDict):
    """Whether an assigned workflow can run, and its address in the API."""

    available: bool
    URL: str


class Assignment(TypedDict):
    """The codesets and the patterns of artifacts that a workflow is assigned to."""

    workflow: str
    codesets: list[Codeset]
    patterns: list[str]
    status: Availability


class Approval(TypedDict, total=False):
    """An approval that a step waits or waited for; `decision` is approved, rejected or expired."""

    message: str
    asked: Required[str]
    deadline: str | None
    decision: str | None
    by: str | None
    decided: str | None
    comment: str


class Combination(TypedDict):
    """A combination of the matrix of `step`: its values and metrics; `best` if the step has its outputs."""

    step: str
    values: dict[str, str]
    metric: str | None
    goal: str | None
    metrics: dict[str, float]
    best: bool


class StepRun(TypedDict):
    """The execution of a step in a run; `log` is the path of its log in the API."""

    name: str
    image: str
    state: str
    started: str | None
    finished: str | None
    duration: float | None
    attempts: int
    cause: str | None
    needs: list[str]
    outputs: dict[str, str]
    reused_from: str | None
    not_reused: str | None
    approval: Approval | None
    combination: Combination | None
    log: str


class Binding(TypedDict, total=False):
    """The service, endpoint and credentials that a selector resolved to."""

    name: Required[str]
    extension_id: Required[str]
    service_id: Required[str]
    service_resource: Required[str]
    service_category: Required[str]
    product: Required[str]
    version: Required[str]
    zone: Required[str]
    url: Required[str]
    endpoint_type: Required[str]
    credentials_id: str
    credentials_scope: str
    configuration: dict[str, str]
    secret_keys: list[str]
    secret_files: dict[str, str]
    revision: int
    ambiguous_with: list[str]
    withheld: str


class StepBinding(Binding):
    """The binding of a selector of `step`."""

    step: str


class Trigger(TypedDict, total=False):
    """The cause of a run: an event, an artifact, a scheduled time (`due`), or a request (`action`, of run `of`)."""

    kind: str
    event: str | None
    artifact: str
    due: str
    action: str
    of: str | None


class Run(TypedDict):
    """A run. `settled`: it has finished, and every run that its artifacts start exists."""

    name: str
    id: str
    workflow: str
    revision: int
    project: str
    codeset: str | None
    commit: str | None
    ref: str | None
    state: str
    settled: bool
    cause: str | None
    created: str
    started: str | None
    finished: str | None
    duration: float | None
    trigger: Trigger
    request: str | None
    caused_by: str | None
    concurrency_group: str | None
    waits_for: str | None
    inputs: dict[str, str]
    outputs: dict[str, str]
    steps: list[StepRun]
    bindings: list[StepBinding]


class Framework(TypedDict):
    """The library that made the contents of an artifact."""

    name: str
    version: str


class ArtifactTag(TypedDict):
    """A tag on one version of an artifact's name, set by `by`; an immutable one does not move."""

    tag: str
    immutable: bool
    by: str
    updated: str


class Artifact(TypedDict):
    """An immutable result with an address such as `model://project/name/version`; `step` of `run` produced it. `tags` and `labels` change."""

    address: str
    kind: str
    project: str
    name: str
    version: str
    type: str | None
    format: str | None
    framework: Framework | None
    digest: str | None
    size: int | None
    location: str | None
    external: bool
    run: str | None
    step: str | None
    metrics: dict[str, float]
    tags: list[ArtifactTag]
    labels: list[str]
    metadata: dict[str, object]
    copies: list[ArtifactCopy]
    created: str


class Descriptor(TypedDict, total=False):
    """An artifact to register: its immutable facts. `sources` are the addresses of the artifacts that it was made from."""

    address: Required[str]
    type: str | None
    format: str | None
    framework: NewFramework | None
    digest: str | None
    size: int | None
    location: str | None
    external: bool
    run: str | None
    step: str | None
    sources: list[str]
    metrics: dict[str, float]
    metadata: dict[str, object]


class NewFramework(TypedDict, total=False):
    """The library that made the contents of an artifact to register."""

    name: Required[str]
    version: str


class ArtifactFilters(TypedDict, total=False):
    """Filters of artifacts; an artifact matches all that are given.

    `framework` may hold a constraint (`scikit-learn>=1.4`), `where` holds conditions on metrics (`metrics.rmse<0.8`), `producer` is a run or
    a workflow, `accepts` is the input of a runnable (`RUNNABLE:INPUT`), `pattern` is `kind://project/*` with filters after `?`. Times are RFC 3339.
    """

    kind: str | None
    project: str | None
    name: str | None
    type: str | None
    format: str | None
    framework: str | None
    tag: str | None
    label: list[str]
    run: str | None
    step: str | None
    producer: str | None
    since: str | None
    before: str | None
    where: list[str]
    accepts: str | None
    pattern: str | None


class Edge(TypedDict):
    """An edge of the lineage: `step` of `run` made `target` from `source`. The run is empty where it is unknown."""

    source: str
    target: str
    run: str
    step: str | None


class Node(TypedDict):
    """An address in a lineage; not `recorded` once it is deleted."""

    address: str
    recorded: bool


class Lineage(TypedDict):
    """What an artifact was made from and what was made from it, nearest first; `truncated` if there is more within the depth."""

    address: str
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool


class NameChange(TypedDict):
    """A change of an artifact's names: tagged, untagged, labelled, unlabelled or deleted."""

    number: int
    change: str
    name: str
    address: str
    previous: str | None
    immutable: bool | None
    by: str
    made: str


class ArtifactHistory(TypedDict):
    """The changes of an artifact's names, newest first, and the edges to what was made from it."""

    address: str
    deleted: bool
    changes: list[NameChange]
    products: list[Edge]


class Component(TypedDict, total=False):
    """A component of a server, such as the embedded MLflow."""

    status: str
    url: str | None
    message: str | None


class Readiness(TypedDict, total=False):
    """The readiness of a server and of its components."""

    status: str
    components: dict[str, Component]
