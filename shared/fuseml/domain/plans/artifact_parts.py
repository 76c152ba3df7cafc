"""The artifacts of a step in a plan: those that it reads, before it, and those that it makes, after it."""

from __future__ import annotations

from fuseml.domain.documents import document
from fuseml.domain.plans.values import Value, Variable


class Store(document.Model):
    """The artifact store of a binding: its service and URL, and the variables for those who move contents, with secrets as references."""

    extension: str
    service: str
    resource: str
    url: str
    variables: tuple[Variable, ...] = ()

    @property
    def name(self) -> str:
        """`extension/service`."""
        return f"{self.extension}/{self.service}"


class Fetch(document.Model):
    """An artifact that the step reads: its contents are at `path` before the step starts. Without a path the step has a reference only, and
    the variables of the store are its own.

    `address` names a version, or is the output of a step that will make it. `asked` is the reference by tag that it was resolved from, and
    `uri` the location of its contents, if it is known before the run. `stored` is the address of a copy in the store, if the step reads one.
    """

    name: str
    address: Value
    asked: str = ""
    uri: Value = ()
    path: str = ""
    stored: Value = ()
    store: Store


class Collect(document.Model):
    """An artifact that the step makes of the files at `path`, which is relative to its folder: they are stored after it has succeeded, and
    the address is the `output`. An anonymous one has no name and is recorded nowhere. Without a path the step itself stores the artifact and
    writes its address; `source` is what a built image is made of.

    A `copied` one has the contents of the artifact that the step reads, and is recorded as a further place of them (`conversions`).
    """

    output: str
    kind: str
    name: str = ""
    path: str = ""
    format: str = ""
    source: str = ""
    store: Store
    copied: bool = False

    @property
    def anonymous(self) -> bool:
        return not self.name and not self.copied
