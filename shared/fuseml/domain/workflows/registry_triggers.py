"""Records of the registry that start workflows: the criteria in the `on.extensions` of a workflow."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain.registry import constraint, extension
from fuseml.domain.registry.selector import Selector
from fuseml.domain.workflows.models import ExtensionTrigger, On

_OF_RECORD = ("extension", "product", "version", "zone")


def criteria(trigger: ExtensionTrigger) -> Mapping[str, str]:
    """The criteria that are given, by their names."""
    return {name: text for name, text in trigger if text}


def matches(trigger: ExtensionTrigger, record: extension.Extension, *, home: str = "") -> bool:
    """Whether the record, and one of its services where the trigger names any, meets every criterion. `home` is the control plane's own zone."""
    of_record = (
        (trigger.extension, record.id),
        (trigger.product, record.product),
        (trigger.zone, record.zone or home),
    )
    if any(expected and expected != actual for expected, actual in of_record):
        return False
    if trigger.version and not constraint.satisfies(record.version, Selector(version=trigger.version).version):
        return False
    if not criteria(trigger).keys() - set(_OF_RECORD):
        return True
    return any(_is_meant(trigger, service) for service in record.services)


def _is_meant(trigger: ExtensionTrigger, service: extension.Service) -> bool:
    of_service = ((trigger.service, service.id), (trigger.resource, service.resource), (trigger.category, service.category))
    return all(not expected or expected == actual for expected, actual in of_service)


def matched(on: On, record: extension.Extension, *, home: str = "") -> str:
    """The first trigger that the record meets, as `resource: s3, zone: eu`; empty without one."""
    met = next((trigger for trigger in on.extensions if matches(trigger, record, home=home)), None)
    return ", ".join(f"{name}: {text}" for name, text in criteria(met).items()) if met else ""
