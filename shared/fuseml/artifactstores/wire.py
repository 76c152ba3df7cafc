"""The bodies of the protocol of store agents (docs/agents.md), and their values in the port. Addresses are texts, digests `algorithm:value`."""

from __future__ import annotations

from typing import Annotated

import pydantic

from fuseml.artifactstores import port
from fuseml.domain.artifact import Address

PROTOCOL = "fuseml.store/1"
ROOT = "/store/v1"

Size = Annotated[int, pydantic.Field(ge=0, lt=1 << 63)]
Text = Annotated[str, pydantic.Field(max_length=1000)]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Wire(pydantic.BaseModel):
    """The parent of all bodies. Fields of later releases are ignored."""

    model_config = pydantic.ConfigDict(from_attributes=True, extra="ignore")


class Declaration(Wire):
    """The protocol of the agent, the kinds of artifacts that it holds, and the operations that it has beside the common ones."""

    protocol: Text
    kinds: list[Text]
    capabilities: list[Text]


class About(Wire):
    """The facts that a producer states about an artifact when it is committed."""

    format: Text = ""
    framework: Text = ""
    framework_version: Text = ""
    producer: Text = ""
    metrics: dict[str, Finite] = {}
    params: dict[str, str] = {}
    metadata: dict[str, str] = {}

    def value(self) -> port.About:
        """In the port."""
        return port.About(**self.model_dump())


class Description(Wire):
    """The facts about a version: `created` in Unix milliseconds, `size` in bytes if known, `digest` empty where the store has none."""

    address: str
    digest: Text
    created: int
    size: Size | None = None
    about: About = About()
    labels: dict[str, str] = {}

    @staticmethod
    def of(description: port.Description) -> Description:
        """The body."""
        facts = {"digest": description.digest, "created": description.created, "size": description.size}
        about = About.model_validate(description.about)
        return Description(address=str(description.address), about=about, labels=dict(description.labels), **facts)

    def value(self) -> port.Description:
        """In the port. Raises InvalidError for an address that is none."""
        return port.Description(Address.parse(self.address), self.digest, self.created, self.size, self.about.value(), self.labels)


class Version(Wire):
    """A version, and its creation in Unix milliseconds."""

    address: str
    created: int


class Page(Wire):
    """Versions, the oldest first; `after` asks for the next page, and is empty behind the last one."""

    versions: list[Version]
    after: str = ""

    @staticmethod
    def of(page: port.Page) -> Page:
        """The body."""
        return Page(versions=[Version(address=str(item.address), created=item.created) for item in page.versions], after=page.after)

    def value(self) -> port.Page:
        """In the port. Raises InvalidError for an address that is none."""
        return port.Page([port.Version(Address.parse(item.address), item.created) for item in self.versions], self.after)


class Location(Wire):
    """The place of the contents: a URI, and digest and size of the version."""

    uri: str
    digest: Text
    size: Size | None = None


class Place(Wire):
    """The place of new versions of a name."""

    kind: Text
    project: Text
    name: Text
    uri: str = ""


class File(Wire):
    """A file of an artifact: relative path with `/`, digest, bytes if known."""

    path: str
    size: Size | None = None
    digest: Text
    executable: bool = False

    def value(self) -> port.File:
        """In the port."""
        return port.File(self.path, self.size, self.digest, self.executable)


class Files(Wire):
    """The files of a version."""

    files: list[File]


class Upload(Wire):
    """The place of a new version and its files, whose contents were sent before; each digest is a SHA-256."""

    place: Place
    files: list[File]


class Sent(Wire):
    """The SHA-256 digests, in hexadecimal digits, of the files of an upload that the agent has."""

    files: list[str]


class Written(Wire):
    """The digest of written contents, for the commit."""

    digest: Text


class Commit(Wire):
    """Contents that become a version."""

    place: Place
    digest: Text
    about: About = About()


class Addressed(Wire):
    """The address of a version."""

    address: str


class Tags(Wire):
    """The tags of a version, sorted."""

    tags: list[str]


class Link(Wire):
    """The URL of the tool's own page."""

    url: str


class Changes(Wire):
    """Versions that were created or changed, and the position for the next call."""

    addresses: list[str]
    position: str
