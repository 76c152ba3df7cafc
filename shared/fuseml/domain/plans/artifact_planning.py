"""The artifacts of a step, from the workflow to the plan: exact addresses, and a store for each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from fuseml.domain import errors, plans, workflows
from fuseml.domain.documents import document, expression
from fuseml.domain.plans import conversions
from fuseml.domain.registry import selector
from fuseml.domain.workflows import artifact_rules, references

Wanted = selector.Selector | None

_NOT_FOR_STEPS = frozenset({"FUSEML_GIT_TOKEN"})
"""Keys of a store that are no account of its contents: with the git host's token, a step could write every codeset."""


@dataclass(frozen=True, slots=True)
class Held:
    """A known artifact: its kind, its address with a version, the reference by tag if it was named by one, the location of its contents if it is
    known, and the binding of the store that holds them.
    """

    kind: str
    address: str
    asked: str
    uri: str
    binding: selector.Binding


class Stores(Protocol):
    """The artifacts and the artifact stores of the run's project. Each call raises UnresolvedError where no store matches."""

    def find(self, text: str, wanted: Wanted, *, opens: bool) -> Held:
        """The artifact that an address or a reference by tag names; with `opens`, in a store that hands out contents, and only `wanted`.

        Raises NotFoundError, InvalidError, and ForbiddenError for an artifact of another project.
        """

    def reader(self, wanted: selector.Selector) -> selector.Binding:
        """The store of a selector, to read from. Raises InvalidError for a store that cannot."""

    def copied_to(self, kind: str, holder: selector.Binding, wanted: selector.Selector) -> selector.Binding | None:
        """The store for a copy of an artifact of a kind in the store `holder`, for a step that reads from the stores of a selector only; None
        if `holder` is one of them. Raises InvalidError where none can take it, and for a holder that hands out no contents.
        """

    def mirror(self, kind: str) -> selector.Selector | None:
        """The stores that steps of the project read artifacts of a kind from, unless they name others; None for every store."""

    def writer(self, kind: str, wanted: Wanted) -> selector.Binding:
        """The store for new artifacts of a kind, by default the project's. Raises InvalidError for a store that cannot take them."""


class Unplanned:
    """The `Stores` of a plan that is built without a registry: every call raises InvalidError."""

    def find(self, text: str, wanted: Wanted, *, opens: bool) -> Held:
        raise errors.InvalidError(f"the artifact {text[:100]!r} cannot be planned without a registry")

    def reader(self, wanted: selector.Selector) -> selector.Binding:
        raise errors.InvalidError("an artifact store cannot be planned without a registry")

    def copied_to(self, kind: str, holder: selector.Binding, wanted: selector.Selector) -> selector.Binding | None:
        raise errors.InvalidError("a copy cannot be planned without a registry")

    def mirror(self, kind: str) -> selector.Selector | None:
        return None

    def writer(self, kind: str, wanted: Wanted) -> selector.Binding:
        raise errors.InvalidError(f"the store of a {kind} cannot be planned without a registry")


class Places:
    """The stores that the outputs of a workflow are written to. Each is chosen once."""

    def __init__(self, workflow: workflows.Workflow, stores: Stores) -> None:
        self.stores = stores
        self._made = artifact_rules.artifact_outputs(workflow)
        self._workflow = workflow
        self._chosen: dict[tuple[str, str], selector.Binding] = {}

    def of(self, step: str, output: str) -> selector.Binding | None:
        """The store of an output; None for an output that is no artifact."""
        key = (step, output)
        if key in self._made and key not in self._chosen:
            self._chosen[key] = self.stores.writer(self._made[key].kind, self._made[key].store)
        return self._chosen.get(key)

    def made(self, step: str, output: str) -> workflows.ArtifactOutput | None:
        """The artifact that an output is; None for any other output."""
        return self._made.get((step, output))

    def uris(self, step: str) -> list[str]:
        """The additional outputs of a step: the URIs of its artifacts that other steps refer to."""
        return [
            f"{output}{artifact_rules.URI_SUFFIX}"
            for producer, output in self._made
            if producer == step and (step, output) in self._referred
        ]

    @functools.cached_property
    def _referred(self) -> set[tuple[str, str]]:
        declared = (
            (item.artifact, scope)
            for step, scope in references.scopes(self._workflow)
            for item in step.inputs
            if item.artifact and item.artifact.access == "reference"
        )
        sources = (artifact_rules.producer(artifact, scope) for artifact, scope in declared)
        return {(source.step, source.output) for source in sources if source}


def store(binding: selector.Binding, variables: Mapping[str, plans.Value]) -> plans.Store:
    """The store of a binding, for the programs that get these variables. They take credentials as text, also those that a step gets as files."""
    return plans.Store(
        extension=binding.extension_id,
        service=binding.service_id,
        resource=binding.service_resource,
        url=binding.url,
        variables=tuple(plans.Variable(name=name, value=tuple(map(_as_text, value))) for name, value in variables.items()),
    )


def _as_text(part: plans.Part) -> plans.Part:
    return part.model_copy(update={"path": ""}) if isinstance(part, plans.SecretPart) and part.path else part


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArtifacts:
    """The artifacts of one step or combination. `value` and `fixed` plan its texts, `variables` those of a binding; `problem` notes a fault.

    `copies` plans the conversions of the run.
    """

    step: workflows.Step
    name: str
    scope: expression.Scope
    places: Places
    value: Callable[[str], plans.Value]
    fixed: Callable[[str], str]
    variables: Callable[[selector.Binding], Mapping[str, plans.Value]]
    copies: conversions.Conversions
    problem: Callable[[document.Path, str], None]

    def fetches(self) -> Iterator[tuple[plans.Fetch, selector.Binding]]:
        """The artifacts that the step reads, each with the binding of its store."""
        for index, item in enumerate(self.step.inputs):
            if item.artifact:
                with self._at(("inputs", index, "artifact")):
                    yield self._fetch(index, item.name, item.artifact)

    def _fetch(self, index: int, name: str, declared: workflows.ArtifactInput) -> tuple[plans.Fetch, selector.Binding]:
        is_reference = declared.access == "reference"
        address, asked, uri, kind = self.value(declared.address), "", plans.text(""), ""
        if all(isinstance(part, plans.TextPart) for part in address):
            held = self.places.stores.find(self.fixed(declared.address), declared.store, opens=not is_reference)
            address, asked, uri, binding, kind = plans.text(held.address), held.asked, plans.text(held.uri), held.binding, held.kind
        else:
            binding, uri = self._of_step(declared)
        stored: plans.Value = ()
        copy = self._copy(name, declared, address, asked, binding, kind)
        if copy:
            binding, step = copy
            stored, uri = ((plans.OutputPart(step=step, output=output),) for output in (conversions.COPY, conversions.COPY_URI))
        if is_reference and not uri:
            self.problem(
                ("inputs", index, "artifact", "access"), "the location of this artifact is not known before the run; read its contents"
            )
        fetch = plans.Fetch(
            name=name,
            address=address,
            asked=asked,
            uri=uri,
            path="" if is_reference else artifact_rules.path_of(name, declared),
            stored=stored,
            store=store(binding, {} if is_reference else self.variables(binding)),
        )
        return fetch, binding

    def _copy(
        self, name: str, declared: workflows.ArtifactInput, address: plans.Value, asked: str, holder: selector.Binding, kind: str
    ) -> tuple[selector.Binding, str] | None:
        """The store of the copy that the step reads, and the step that makes it; None if it reads the artifact where it is."""
        source = artifact_rules.producer(declared, self.scope)
        made = self.places.made(source.step, source.output) if source else None
        kind = made.kind if made else kind
        if not kind or (declared.store and declared.access != "reference"):
            # The text of another step: a step reads it in the store that it names.
            return None
        # Its step alone reads what is anonymous: no mirror.
        read_from = declared.store or (None if made and made.anonymous else self.places.stores.mirror(kind))
        target = self.places.stores.copied_to(kind, holder, read_from) if read_from else None
        if target is None:
            return None
        wanted = conversions.Wanted(
            address=address, asked=asked, kind=kind, anonymous=bool(made and made.anonymous), holder=holder, target=target
        )
        return target, self.copies.of(wanted, self.name, name, self.step.retries).name

    def _of_step(self, declared: workflows.ArtifactInput) -> tuple[selector.Binding, plans.Value]:
        """The store of an artifact that a step of the run makes, and its URI."""
        source = artifact_rules.producer(declared, self.scope)
        binding = self.places.of(source.step, source.output) if source else None
        if source and binding:
            uri = f"{source.output}{artifact_rules.URI_SUFFIX}"
            return binding, (plans.OutputPart(step=source.step, output=uri),) if uri in self.places.uris(source.step) else ()
        if declared.store is None:
            raise errors.InvalidError("the store of this address is unknown before the run; name it by `store`")
        return self.places.stores.reader(declared.store), ()

    def collects(self) -> Iterator[tuple[plans.Collect, selector.Binding]]:
        """The artifacts that the step makes, each with the binding of its store."""
        for index, output in enumerate(self.step.outputs):
            if output.artifact:
                with self._at(("outputs", index, "artifact")):
                    binding = self.places.of(self.step.name, output.name)
                    assert binding is not None
                    yield self._collect(index, output.name, output.artifact, binding), binding

    def _collect(self, index: int, output: str, declared: workflows.ArtifactOutput, binding: selector.Binding) -> plans.Collect:
        path, name = self.fixed(declared.path), "" if declared.anonymous else self.fixed(declared.name) or output
        if not artifact_rules.is_output_path(path):
            self.problem(("outputs", index, "artifact", "path"), f"{path!r} is not a path below the folder in which the step runs")
        if name:
            try:
                artifact_rules.check_output_name(declared.kind, name)
            except errors.InvalidError as error:
                self.problem(("outputs", index, "artifact", "name"), error.message)
        return plans.Collect(
            output=output, kind=declared.kind, name=name, path=path, format=declared.format, store=store(binding, self.variables(binding))
        )

    def environment(self, fetched: plans.Fetch, binding: selector.Binding) -> dict[str, plans.Value]:
        """The variables of the step itself for an artifact that it reads."""
        name = references.variable(fetched.name)
        if fetched.path:
            return {name: plans.text(fetched.path), f"{name}_ADDRESS": fetched.address}
        own = {key: value for key, value in self.variables(binding).items() if key not in _NOT_FOR_STEPS}
        return {name: fetched.address, f"{name}_URI": fetched.uri, **own}

    @contextlib.contextmanager
    def _at(self, path: document.Path) -> Iterator[None]:
        """Add the step and the place to a refusal."""
        try:
            yield
        except (errors.PermanentError, errors.TemporaryError) as error:
            where = f"step {self.name!r}, {document.render_path(path)}"
            raise type(error)(f"{where}: {error.message}", details=error.details) from error
