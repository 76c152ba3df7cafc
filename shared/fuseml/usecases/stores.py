"""The artifact stores of a project: those that hold its artifacts, and those that new ones are written to.

A store is found by a selector, as every tool is, with the credentials of the run's project and user.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import artifact, errors
from fuseml.domain.plans import artifact_planning
from fuseml.domain.registry import artifact_stores, selector
from fuseml.domain.workflows import artifact_rules
from fuseml.store import artifact_names, artifacts, mirrors, resolution

REGISTRY = "oci-registry"
"""The resource of the services that are registries of images."""

STORE_FACT = "store"
"""The key among the details of an artifact under which its store is recorded, as `extension/service`."""


_READS, _WRITES = artifact_stores.READS, artifact_stores.WRITES


@dataclass(frozen=True, slots=True)
class ProjectStores:
    """See `artifact_planning.Stores`. `home` is the control plane's own zone; `opened` adds to a binding what steps need for it."""

    session: sqlmodel.Session
    context: selector.Context
    home: str
    facts: artifact_stores.FactsOf
    opened: Callable[[selector.Binding], selector.Binding] = lambda binding: binding

    def find(self, text: str, wanted: artifact_planning.Wanted, *, opens: bool) -> artifact_planning.Held:
        """See `Stores.find`. Without `opens`, `wanted` counts only where no store is recorded."""
        reference = artifact_rules.check_address(text)
        if reference.project != self.context.project:
            # Alike for artifacts that exist and that do not: names cannot be probed.
            raise errors.ForbiddenError(f"a run of the project {self.context.project!r} reads the artifacts of its own project only")
        asked = text if isinstance(reference, artifact.Tagged) else ""
        address = artifact_names.tagged(self.session, reference) if isinstance(reference, artifact.Tagged) else text
        row = artifacts.get(self.session, address)
        return artifact_planning.Held(row.kind, address, asked, row.location or "", self.holder(row, wanted, opens=opens))

    def reader(self, wanted: selector.Selector) -> selector.Binding:
        """See `Stores.reader`."""
        binding = self._resolve(wanted)
        self._check(binding, None, _READS)
        return binding

    def writer(self, kind: str, wanted: artifact_planning.Wanted) -> selector.Binding:
        """See `Stores.writer`."""
        if wanted is None:
            return self._default(kind, _WRITES)
        binding = self._resolve(wanted)
        self._check(binding, kind, _WRITES)
        return binding

    def registry(self) -> selector.Binding:
        """The OCI registry for images that FuseML builds. Raises UnresolvedError where the project finds none."""
        try:
            return self._resolve(selector.Selector(name="registry", service_resource=REGISTRY))
        except errors.UnresolvedError as error:
            raise errors.UnresolvedError(
                f"the project {self.context.project!r} finds no registry of images; register one (resource {REGISTRY!r})",
                details=error.details,
            ) from error

    def copied_to(self, kind: str, holder: selector.Binding, wanted: selector.Selector) -> selector.Binding | None:
        """See `Stores.copied_to`."""
        if self._is_among(holder, wanted):
            return None
        name, asked = f"{holder.extension_id}/{holder.service_id}", _criteria(wanted)
        if not self.facts(holder).capabilities >= _READS:
            raise errors.InvalidError(
                f"the step reads from the stores {asked}, and the artifact is in {name} ({holder.service_resource}), which hands out no "
                "contents to copy; put the artifact into one of these stores"
            )
        target = self._best(kind, _WRITES, wanted)
        if target is None:
            raise errors.InvalidError(
                f"the step reads from the stores {asked}, the artifact is in {name} ({holder.service_resource}), and the project "
                f"{self.context.project!r} has no such store for a copy of a {kind}; register one that has the operations "
                f"{' and '.join(sorted(_WRITES))}"
            )
        if target.withheld:
            raise errors.InvalidError(f"the store {target.extension_id}/{target.service_id} for the copy cannot be used: {target.withheld}")
        return target

    def mirror(self, kind: str) -> selector.Selector | None:
        """See `Stores.mirror`."""
        row = mirrors.find(self.session, self.context.project, kind)
        return selector.Selector.model_validate(row.store) if row else None

    def _is_among(self, holder: selector.Binding, wanted: selector.Selector) -> bool:
        """Whether a selector would accept the store of a binding."""
        pinned = artifact_stores.pinned(wanted, holder)
        return pinned is not None and not resolution.attempt(self.session, [pinned], self.context, home=self.home).unresolved

    def holder(self, row: artifacts.Artifact, wanted: artifact_planning.Wanted = None, *, opens: bool) -> selector.Binding:
        """The store that holds the contents of an artifact: that of its record, or `wanted` where none is recorded.

        Raises InvalidError for an external artifact, and with `opens` for another `wanted` store than the recorded one and for a store that
        does not hand out contents.
        """
        if row.external:
            raise errors.InvalidError(f"{row.address} is external: no store of FuseML holds its contents, which are at {row.location}")
        named = recorded(row)
        if named is None and wanted is None:
            return self._default(row.kind, _READS if opens else frozenset())
        binding = self._resolve(named or wanted or selector.Selector())
        if named and wanted and opens:
            self._expect_same(row, binding, self._resolve(wanted))
        self._check(binding, row.kind, _READS if opens else frozenset())
        return binding

    @staticmethod
    def _expect_same(row: artifacts.Artifact, holder: selector.Binding, wanted: selector.Binding) -> None:
        held, asked = (f"{binding.extension_id}/{binding.service_id}" for binding in (holder, wanted))
        if held != asked:
            raise errors.InvalidError(
                f"{row.address} is in the store {held}, not in {asked}; leave out `store`: a step reads contents from every store"
            )

    def _resolve(self, wanted: selector.Selector) -> selector.Binding:
        asked = artifact_stores.one_service(wanted).model_copy(update={"name": wanted.name or "store"})
        [binding] = resolution.resolve(self.session, [asked], self.context, home=self.home).bindings
        return self._completed(binding)

    def _completed(self, binding: selector.Binding) -> selector.Binding:
        """The binding with the variables that its store adds."""
        added = self.facts(binding).variables
        return self.opened(binding.model_copy(update={"configuration": {**added, **binding.configuration}}))

    def _check(self, binding: selector.Binding, kind: str | None, needed: frozenset[str]) -> None:
        facts, name = self.facts(binding), f"{binding.extension_id}/{binding.service_id} ({binding.service_resource})"
        if kind is not None and kind not in facts.kinds:
            raise errors.InvalidError(f"the artifact store {name} holds no {kind}; its kinds are {', '.join(sorted(facts.kinds))}")
        if missing := sorted(needed - facts.capabilities):
            advice = "refer to the artifact by `access: reference`" if missing == ["open"] else "choose another store"
            raise errors.InvalidError(f"the artifact store {name} cannot {' and '.join(missing)} contents for a step; {advice}")

    def _default(self, kind: str, needed: frozenset[str]) -> selector.Binding:
        """The best store of the category that holds the kind and has the operations; the embedded server's own only without another one."""
        best = self._best(kind, needed, selector.Selector())
        if best is not None:
            return best
        raise errors.UnresolvedError(
            f"no artifact store of the project {self.context.project!r} holds a {kind}; "
            f"register one with the category {artifact.STORE_CATEGORY!r}, "
            "for example a bucket (resource s3)",
            details={"unresolved": [f"{kind}-store"]},
        )

    def _best(self, kind: str, needed: frozenset[str], wanted: selector.Selector) -> selector.Binding | None:
        """The best store of a selector that holds the kind and has the operations; the embedded server's own only without another one."""
        wanted_each = artifact_stores.for_each_resource(wanted, kind, functools.partial(resolution.resources, self.session))
        ranked = resolution.ranked(self.session, wanted_each, self.context, home=self.home)
        chosen = artifact_stores.best(ranked, kind, needed, self.facts)
        return self._completed(chosen) if chosen else None


def _criteria(wanted: selector.Selector) -> str:
    """The criteria of a selector in the spelling of a document."""
    stated = wanted.model_dump(exclude_defaults=True, exclude={"name"})
    return "{" + ", ".join(f"{field}: {value}" for field, value in stated.items()) + "}"


def recorded(row: artifacts.Artifact) -> selector.Selector | None:
    """The selector of the store that the record of an artifact names; None where it names none."""
    extension_id, _, service_id = str(row.details.get(STORE_FACT) or "").partition("/")
    if extension_id and service_id:
        return selector.Selector(extension_id=extension_id, service_id=service_id)
    if row.kind == "model" and row.format == "mlflow":
        # By a webhook of its tracking server, or by the step that registered it there.
        return selector.Selector(extension_id=str(row.details.get("extension") or ""), service_resource="mlflow-tracking")
    return None
