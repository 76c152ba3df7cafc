"""The choice of an artifact store: by a selector as for every tool, and by the facts about the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fuseml.domain import artifact, errors
from fuseml.domain.registry.selector import Binding, Selector

BUILT_IN = "fuseml"
"""The product of the store that the embedded server brings. Every other store is preferred to it."""

WRITES = frozenset({"write", "commit"})
"""The operations of a store for new artifacts and for copies."""

READS = frozenset({"open"})
"""The operations of a store whose contents a step gets at a path."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The kinds of artifacts that a store holds, its operations, and the variables that it adds to those of its binding."""

    kinds: frozenset[str]
    capabilities: frozenset[str]
    variables: Mapping[str, str]


FactsOf = Callable[[Binding], Facts]
"""From the binding of a store to the facts about it. Raises InvalidError for a binding of no store."""


def no_store(binding: Binding) -> Facts:
    """The facts where no artifact store is known. Raises InvalidError."""
    raise errors.InvalidError(f"no artifact store is known, and {binding.extension_id}/{binding.service_id} is none")


def of_category(wanted: Selector) -> Selector:
    """The selector of a store in a document, with the category unless it names the service or a category itself."""
    return wanted.model_copy(update={"service_category": wanted.service_category or ("" if wanted.service_id else artifact.STORE_CATEGORY)})


def one_service(wanted: Selector) -> Selector:
    """The selector of a store in a document, with the category unless it names an extension, a resource or a category itself."""
    is_named = wanted.extension_id or wanted.service_resource or wanted.service_category
    return wanted.model_copy(update={"service_category": wanted.service_category or ("" if is_named else artifact.STORE_CATEGORY)})


def for_each_resource(wanted: Selector, kind: str, resources: Callable[[str], Sequence[str]]) -> list[Selector]:
    """A selector for each resource of the category: the best match of all may be no store for the purpose."""
    asked = of_category(wanted)
    asked = asked.model_copy(update={"name": wanted.name or f"{kind}-store"})
    if asked.service_resource or not asked.service_category:
        return [asked]
    return [asked.model_copy(update={"service_resource": resource}) for resource in resources(asked.service_category)]


def best(ranked: Iterable[Binding], kind: str, needed: frozenset[str], facts: FactsOf) -> Binding | None:
    """The first store that holds the kind and has the operations; the embedded server's own only without another one."""
    for binding in sorted(ranked, key=lambda binding: binding.product == BUILT_IN):
        known = facts(binding)
        if kind in known.kinds and needed <= known.capabilities:
            return binding
    return None


def pinned(wanted: Selector, holder: Binding) -> Selector | None:
    """The selector for the service of a binding alone: it resolves if the selector accepts that service. None if it names another one."""
    if wanted.extension_id not in ("", holder.extension_id) or wanted.service_id not in ("", holder.service_id):
        return None
    named = {"name": "store", "extension_id": holder.extension_id, "service_id": holder.service_id, "ambiguity": "first"}
    return wanted.model_copy(update=named)
