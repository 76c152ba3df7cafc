"""The artifact store of a project for a kind: a selector resolves to it as to every tool, with the credentials that the project may use."""

from __future__ import annotations

from collections.abc import Callable

import sqlmodel

from fuseml import artifactstores
from fuseml.artifactstores.port import ArtifactStore, check_kind
from fuseml.domain import plans
from fuseml.domain.registry import extension, selector
from fuseml.store import extensions, resolution


def of_project(
    session: sqlmodel.Session,
    kind: str,
    wanted: selector.Selector,
    context: selector.Context,
    unseal: Callable[[str], str],
    *,
    home: str = "",
) -> ArtifactStore:
    """The store for artifacts of a kind. A selector without a category asks for `artifact-store`; `home` is the control plane's own zone.

    Raises UnresolvedError where nothing matches, InvalidError where the match is no artifact store or holds no artifacts of the kind.
    """
    asked = wanted.model_copy(
        update={"name": wanted.name or f"{kind}-store", "service_category": wanted.service_category or artifactstores.CATEGORY}
    )
    [binding] = resolution.resolve(session, [asked], context, home=home).bindings
    store = artifactstores.connect(connection(session, binding, unseal, context.project))
    check_kind(store, kind)
    return store


def connection(
    session: sqlmodel.Session, binding: selector.Binding, unseal: Callable[[str], str], project: str = ""
) -> artifactstores.Connection:
    """The connection of a binding, with the present secrets of its credentials. Tokens of steps are none of a store's."""
    variables = {key: value for key, value in binding.configuration.items() if value != extension.STEP_TOKEN}
    for key in binding.secret_keys:
        part = plans.SecretPart(extension=binding.extension_id, service=binding.service_id, credentials=binding.credentials_id, key=key)
        variables[key] = unseal(extensions.sealed_secret(session, part))
    return artifactstores.Connection(binding.service_resource, binding.url, variables, project)


def planned(session: sqlmodel.Session, store: plans.Store, unseal: Callable[[str], str], project: str) -> artifactstores.Connection:
    """The connection of a store in a plan, with the present secrets of its credentials. Tokens of steps are left out."""
    variables: dict[str, str] = {}
    for item in store.variables:
        if not any(isinstance(part, plans.SecretPart) and part.token_of is not None for part in item.value):
            variables[item.name] = plans.evaluate(item.value, {}, lambda part: unseal(extensions.sealed_secret(session, part)))
    return artifactstores.Connection(store.resource, store.url, variables, project)
