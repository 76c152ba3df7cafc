"""The descriptor of a runnable: an image with typed inputs and outputs. A version of a runnable is immutable.

`problems` are the rules beyond the schema; `load` reports the violations of both at once, with positions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic

from fuseml.domain import errors, finite
from fuseml.domain.artifacts import conditions, search
from fuseml.domain.documents import document, expression
from fuseml.domain.registry import selector, versions
from fuseml.domain.runnables import values
from fuseml.domain.workflows import references, resources, rules, triggers
from fuseml.domain.workflows.fields import Items, Scalar
from fuseml.domain.workflows.models import EnvironmentVariable, ExtensionRequirement, Resources

Kind = Literal[
    "builder",
    "trainer",
    "predictor",
    "transformer",
    "validator",
    "explainer",
    "notebook",
    "store-agent",
    "workload-agent",
    "custom",
]
Type = Literal["codeset", "model", "dataset", "runnable", "string", "integer", "number", "boolean"]

ARTIFACTS: Mapping[str, str] = {"codeset": "code", "model": "model", "dataset": "dataset", "runnable": "runnable"}
"""Type of an input or output that is an artifact -> the kind of the artifact."""

SCHEMA_ID = "https://fuseml.org/schemas/runnable.v1.json"
MOST_INPUTS = 100
"""Inputs of one runnable; as many outputs."""

_VERSION = re.compile(r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_CODESET = re.compile(r"(?:[^/\s]+/)?[^/\s]+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,200}")

Word = Annotated[document.Text, pydantic.Field(min_length=1, max_length=100, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
Line = Annotated[document.Text, pydantic.Field(max_length=200)]
Prose = Annotated[document.Text, pydantic.Field(max_length=1000)]


def _listed(value: object) -> object:
    return [] if value is None else value if isinstance(value, list | tuple) else [value]


def _bound(value: object) -> object:
    if finite.number(value) is None:
        raise ValueError("must be a finite number")
    return value


Bound = Annotated[int | float, pydantic.BeforeValidator(_bound), pydantic.WithJsonSchema({"type": "number"})]
"""A finite number; a whole one stays exact."""

OneOrMore = pydantic.BeforeValidator(_listed)


class Accepts(document.Model):
    """The artifacts that an input accepts: one of the formats, and one of the frameworks, which may have a version constraint.

    An artifact that is passed by reference is in a store of the selector `store`, or is copied to one.
    """

    format: Annotated[list[Word], OneOrMore, pydantic.Field(max_length=20, description="Formats: mlflow, onnx; one is enough.")] = []
    framework: Annotated[
        list[Line], OneOrMore, pydantic.Field(max_length=20, description="Frameworks: scikit-learn>=1.4; one is enough.")
    ] = []
    store: Annotated[
        selector.Selector | None,
        pydantic.Field(description="With `access: reference`, the stores that it reads; an artifact elsewhere is copied there."),
    ] = None


class Gives(document.Model):
    """The format and the framework of an output; a framework may have its version: `scikit-learn 1.5.0`."""

    format: Word | None = None
    framework: Annotated[Line | None, pydantic.Field(description="A framework, or with its version: scikit-learn 1.5.0.")] = None


class Watch(document.Model):
    """The part of an input that counts as a change: files of a codeset, fields of a dataset, or a condition on the metrics of a model."""

    paths: Annotated[Items[document.Text], pydantic.Field(description="Globs of files of a codeset: conda.yaml, src/**.")] = []
    fields: Annotated[Items[Word], pydantic.Field(description="Fields of a dataset's descriptor or metadata: digest, rows.")] = []
    metrics: Annotated[Line, pydantic.Field(description="Conditions on the metrics of a model: rmse < 0.8, r2 > 0.5.")] = ""


class Input(document.Model):
    """An input: an artifact, or a value that may have a default, a list of the legal `values`, and bounds.

    A value is in the step's environment as FUSEML_<NAME>, is an argument `--NAME=VALUE` of its command, or is the content of a file, whose
    path is in FUSEML_<NAME>. A codeset is a checkout.
    """

    name: document.Text
    description: Prose = ""
    type: Type = "string"
    accepts: Accepts = Accepts()
    optional: bool = False
    default: Scalar | None = None
    values: Items[Scalar] = []
    minimum: Bound | None = None
    maximum: Bound | None = None
    passed: Annotated[Literal["env", "argument", "file"], pydantic.Field(alias="pass")] = "env"
    watch: Watch = Watch()
    takes: Annotated[
        list[Word],
        OneOrMore,
        pydantic.Field(max_length=20, description="Names of outputs that it takes in a composed pipeline, beside its own name: image."),
    ] = []

    @property
    def is_artifact(self) -> bool:
        return self.type in ARTIFACTS

    @property
    def needs_value(self) -> bool:
        """Whether a step must give it."""
        return not self.optional and self.default is None


class Output(document.Model):
    """An output. A step has the optional ones only if it lists them."""

    name: document.Text
    description: Prose = ""
    type: Type = "string"
    gives: Gives = Gives()
    optional: bool = False


class Build(document.Model):
    """The codeset of the runnable's project, its commit, and the Dockerfile in it, that the image is built of.

    Without a commit, the registration of the version takes the newest one of the default branch.
    """

    codeset: Annotated[Line, pydantic.Field(description="A codeset of the project: NAME, or PROJECT/NAME.")]
    dockerfile: Annotated[Line, pydantic.Field(description="The path of the Dockerfile in the codeset.")] = "Dockerfile"
    commit: Annotated[
        Line, pydantic.Field(description="All digits of a commit; by default the newest one of the default branch at the registration.")
    ] = ""

    @property
    def codeset_name(self) -> str:
        """The name of the codeset within its project."""
        return self.codeset.rpartition("/")[2]

    @property
    def project(self) -> str:
        """The project of the codeset; empty for that of the runnable."""
        return self.codeset.rpartition("/")[0]


class Runnable(document.Model):
    """A reusable step: an image with typed inputs and outputs. Its texts may hold `{{ inputs.NAME }}` for its own inputs."""

    name: document.Text
    version: Annotated[document.Text, pydantic.Field(description="A semantic version: 1.2.0.")]
    kind: Kind = "custom"
    description: Prose = ""
    author: Line = ""
    source: Prose = ""
    labels: Annotated[dict[Word, document.Text], pydantic.Field(max_length=50)] = {}
    image: Annotated[document.Text, pydantic.Field(max_length=500)] = ""
    build: Build | None = None
    command: Items[Scalar] = []
    args: Items[Scalar] = []
    script: document.Text = ""
    env: Items[EnvironmentVariable] = []
    inputs: Annotated[Items[Input], pydantic.Field(max_length=MOST_INPUTS)] = []
    outputs: Annotated[Items[Output], pydantic.Field(max_length=MOST_INPUTS)] = []
    extensions: Items[ExtensionRequirement] = []
    resources: Resources = Resources()
    capabilities: Annotated[Items[Word], pydantic.Field(max_length=50, description="Abilities of the machine, for people: avx512.")] = []

    def input(self, name: str) -> Input | None:
        """The input of that name."""
        return next((item for item in self.inputs if item.name == name), None)

    def output(self, name: str) -> Output | None:
        """The output of that name."""
        return next((item for item in self.outputs if item.name == name), None)

    def stored(self) -> dict[str, Any]:
        """The descriptor as it is stored and shown: without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def digest(self) -> str:
        """The digest of its content, the version included: `sha256:...`."""
        return _digest(self.stored())

    @property
    def content(self) -> str:
        """The digest of its content without the version: equal for versions that differ in nothing else."""
        return _digest({key: value for key, value in self.stored().items() if key != "version"})


def _digest(content: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load(text: str) -> Runnable:
    """Read a descriptor, YAML or JSON. Raises InvalidError that lists every problem with path, line, column and suggestion."""
    return check(document.parse(text))


def check(parsed: document.Parsed) -> Runnable:
    """The descriptor in a parsed document. Raises InvalidError as `load` does."""
    runnable = document.validate(Runnable, parsed.data, position=parsed.position, kind="runnable")
    found = [
        errors.Problem(document.render_path(path), message, *(parsed.position(path) or (None, None)))
        for path, message in problems(runnable)
    ]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise errors.InvalidError(f"the runnable is not valid: {found[0]}{more}", found[: document.MAX_PROBLEMS])
    return runnable


def json_schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of descriptors, for editors."""
    schema = Runnable.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema, "title": "FuseML runnable"}


Problem = tuple[document.Path, str]


def is_version(text: str) -> bool:
    """Whether a runnable may have the version."""
    return _VERSION.fullmatch(text) is not None and len(text) <= 100 and versions.parse(text) is not None


def problems(runnable: Runnable) -> Iterator[Problem]:
    """The violations of the rules by a descriptor that its schema accepts."""
    if not document.IDENTIFIER.fullmatch(runnable.name) or len(runnable.name) > 100:
        yield ("name",), f"{runnable.name[:100]!r} is not a valid name: letters, digits, '-' and '_', at most 100, not beginning with '-'"
    if not is_version(runnable.version):
        yield ("version",), f"{runnable.version[:100]!r} is not a version; write three numbers, such as 1.2.0 or 1.2.0-rc.1"
    if bool(runnable.image.strip()) == bool(runnable.build):
        yield ("image",), "a runnable has either an image, or a `build` of one"
    if runnable.build:
        for path, message in _build(runnable.build):
            yield ("build", *path), message
    if runnable.script and runnable.command:
        yield ("script",), "a runnable has a script or a command, not both"
    for path, text in texts(runnable):
        yield from _references(runnable, path, text)
    for label, text in runnable.labels.items():
        if not _LABEL.fullmatch(text):
            yield ("labels", label), "a label is a line of at most 200 characters"
    yield from _names(runnable)
    for index, item in enumerate(runnable.inputs):
        for path, message in _input(item):
            yield ("inputs", index, *path), message
    for index, output in enumerate(runnable.outputs):
        if output.gives.framework and "," in output.gives.framework:
            yield ("outputs", index, "gives", "framework"), "an output gives one framework: scikit-learn, or scikit-learn 1.5.0"
        if output.gives != Gives() and output.type not in ARTIFACTS:
            yield ("outputs", index, "gives"), f"a {output.type} has no format and no framework; only artifacts have"
    for place, message in resources.faults(runnable.resources.requests, runnable.resources.limits):
        yield ("resources", *place), message


def _build(build: Build) -> Iterator[Problem]:
    if not _CODESET.fullmatch(build.codeset):
        yield ("codeset",), f"{build.codeset[:100]!r} is not a codeset; write NAME, or PROJECT/NAME"
    if not rules.is_folder(build.dockerfile) or not build.dockerfile.strip("/."):
        yield ("dockerfile",), f"{build.dockerfile[:100]!r} is not the path of a file in the codeset, such as docker/Dockerfile"
    if build.commit and not _COMMIT.fullmatch(build.commit):
        yield ("commit",), f"{build.commit[:80]!r} is not a commit; it takes all 40 (or 64) hex digits"


def texts(runnable: Runnable) -> Iterator[tuple[document.Path, str]]:
    """The texts that may refer to the runnable's own inputs."""
    yield ("image",), runnable.image
    for kind, parts in (("command", runnable.command), ("args", runnable.args)):
        for index, text in enumerate(parts):
            yield (kind, index), text
    yield ("script",), runnable.script
    for index, variable in enumerate(runnable.env):
        yield ("env", index, "value"), variable.value


def _references(runnable: Runnable, path: document.Path, text: str) -> Iterator[Problem]:
    nodes, unreadable = expression.read(text, lambda _: False)
    for problem in unreadable:
        yield path, problem.message
    for node in nodes:
        if isinstance(node, expression.Literal):
            continue
        if not isinstance(node, expression.InputReference) or node.attribute:
            yield path, f"'{{{{ {node} }}}}': a runnable refers to its own inputs only, as {{{{ inputs.NAME }}}}"
            continue
        item = runnable.input(node.name)
        if item is None:
            near = document.nearest(node.name, [other.name for other in runnable.inputs])
            yield path, f"there is no input {node.name!r}" + (f"; did you mean {near!r}?" if near else "")
        elif item.type == "codeset" or item.passed == "file":
            reason = "a codeset, which is a folder" if item.type == "codeset" else "a file, whose path is in its variable"
            yield path, f"the input {node.name!r} is {reason}, and has no text here"


def _names(runnable: Runnable) -> Iterator[Problem]:
    variables: dict[str, str] = {}
    for index, item in enumerate(runnable.inputs):
        if not document.IDENTIFIER.fullmatch(item.name) or len(item.name) > 100:
            yield (
                ("inputs", index, "name"),
                f"{item.name[:100]!r} is not a valid name: letters, digits, '-' and '_', not beginning with '-'",
            )
        variable = references.variable(item.name)
        if variable in variables:
            yield ("inputs", index, "name"), f"the inputs {variables[variable]!r} and {item.name!r} become the same variable, {variable}"
        variables.setdefault(variable, item.name)
    for kind, names in (
        ("outputs", [item.name for item in runnable.outputs]),
        ("extensions", [item.name for item in runnable.extensions]),
        ("env", [item.name for item in runnable.env]),
    ):
        legal = _VARIABLE if kind == "env" else _NAME
        for index, name in enumerate(names):
            if not legal.fullmatch(name):
                yield (kind, index, "name"), f"{name[:100]!r} is not a valid name"
            elif name in names[:index]:
                yield (kind, index, "name"), f"the name {name!r} is repeated"


def _input(item: Input) -> Iterator[Problem]:
    if item.is_artifact and (item.values or item.minimum is not None or item.maximum is not None):
        yield ("values" if item.values else "minimum",), f"a {item.type} is an artifact, and its values cannot be listed or bounded"
    if item.type not in ("integer", "number") and (item.minimum is not None or item.maximum is not None) and not item.is_artifact:
        yield ("minimum" if item.minimum is not None else "maximum",), f"only an integer or a number has bounds, not a {item.type}"
    if item.minimum is not None and item.maximum is not None and item.minimum > item.maximum:
        yield ("minimum",), f"no value is at least {item.minimum} and at most {item.maximum}"
    for index, text in enumerate(item.values):
        fault = values.fault(item.model_copy(update={"values": []}), text)
        if fault:
            yield ("values", index), fault
    yield from _default(item)
    if not item.is_artifact and item.accepts != Accepts():
        yield ("accepts",), f"a {item.type} has no format, framework or store; only artifacts have"
    for field in selector.TEXTS:
        if item.accepts.store and expression.holds_expression(getattr(item.accepts.store, field)):
            yield ("accepts", "store", field), "a selector is plain text and cannot hold an expression"
    for index, framework in enumerate(item.accepts.framework):
        message = _message(lambda text=framework: search.framework(text))
        if message:
            yield ("accepts", "framework", index), message
    if item.type == "codeset" and item.passed != "env":
        yield ("pass",), "a codeset is a folder; it is not passed"
    yield from _watch(item)


def _default(item: Input) -> Iterator[Problem]:
    if item.default is None:
        return
    if item.type == "codeset":
        yield ("default",), "a codeset has no default"
    elif expression.holds_expression(item.default):
        yield ("default",), "a default is plain text and cannot hold an expression"
    # An empty default is none: the program decides.
    elif item.default and (fault := values.fault(item, item.default)):
        yield ("default",), fault


def _watch(item: Input) -> Iterator[Problem]:
    for field, kind in (("paths", "codeset"), ("fields", "dataset"), ("metrics", "model")):
        if getattr(item.watch, field) and item.type != kind:
            yield ("watch", field), f"only a {kind} has {field} to watch; this input is a {item.type}"
    if item.watch.metrics and (message := _message(lambda: conditions.comparisons(item.watch.metrics))):
        yield ("watch", "metrics"), message
    for index, glob in enumerate(item.watch.paths):
        message = _message(lambda text=glob: triggers.check_path(text))
        if message:
            yield ("watch", "paths", index), message


def _message(read: Any) -> str:
    try:
        read()
    except errors.InvalidError as error:
        return error.message
    return ""
