"""The extension record: the services of one registered installation of a product, with their endpoints and credentials.

The same models serve as document, as patch of a PUT (an absent field keeps its value) and as stored record;
`domain.registry.registry` changes them. Field names are the original API's, and its example records load unchanged.

Credentials values are opaque; the store holds them sealed. The placeholder `<hidden>` stands for the stored value. Without a stored value
the placeholder stays, the value counts as missing, and resolution rejects the credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal, TypeVar, cast

import pydantic

from fuseml.domain.documents import document
from fuseml.domain.registry import credential_files

HIDDEN = "<hidden>"
"""Replaces every credentials value in responses."""

STEP_TOKEN = "<step token>"  # noqa: S105 - a mark, no token
"""A value of an endpoint's configuration for which each step gets its own token: the endpoint is FuseML's own."""

LIMITS: Mapping[str, int] = {"services": 100, "endpoints": 50, "credentials": 200}
"""The largest number of parts of each kind under one owner."""


def _check_text(value: str) -> str:
    # Neither environment variables nor PostgreSQL can hold NUL.
    if "\0" in value:
        raise ValueError("must not hold the NUL character")
    return value


def _check_identifier(value: str) -> str:
    if value and not document.IDENTIFIER.fullmatch(value):
        raise ValueError("may hold letters, digits, '-' and '_' only, and must not begin with '-'")
    return value


def _check_path(value: str) -> str:
    if fault := credential_files.path_fault(value):
        raise ValueError(fault)
    return value


_Text = Annotated[document.Text, pydantic.AfterValidator(_check_text)]
_Name = Annotated[_Text, pydantic.Field(max_length=100)]
_Description = Annotated[_Text, pydantic.Field(max_length=1000)]
_Url = Annotated[_Text, pydantic.Field(min_length=1, max_length=200)]
_Identifier = Annotated[_Name, pydantic.AfterValidator(_check_identifier)]
_Key = Annotated[_Identifier, pydantic.Field(min_length=1)]
_Configuration = Annotated[dict[_Key, Annotated[_Text, pydantic.Field(max_length=65_536)]], pydantic.Field(max_length=200)]
# A sealed value is longer than its plain text: up to four bytes a character, a third more as base64, and the seal.
_Secrets = Annotated[dict[_Key, Annotated[_Text, pydantic.Field(max_length=400_000)]], pydantic.Field(max_length=200, repr=False)]
_Files = Annotated[dict[_Key, Annotated[_Text, pydantic.AfterValidator(_check_path)]], pydantic.Field(max_length=credential_files.MOST)]
_Names = Annotated[tuple[_Name, ...], pydantic.Field(max_length=1000)]


class Health(document.Model):
    """The result of the last probes: the state, its begin and the last probe (RFC 3339), and the cause of an unhealthy state."""

    state: Literal["healthy", "unhealthy"]
    since: str
    seen: str = ""
    cause: str = ""


class Status(document.Model):
    """The times of registration and of the last change (RFC 3339). Read-only: the value in a request is dropped."""

    # Read-only, so an unknown key of another version is no error.
    model_config = pydantic.ConfigDict(extra="ignore")

    begin: ClassVar[str] = "registered"

    registered: str | None = None
    updated: str | None = None


class EndpointStatus(Status):
    health: Health | None = None


class CredentialsStatus(document.Model):
    """As `Status`, with the field names of the original API: `created` for credentials, `registered` elsewhere."""

    model_config = pydantic.ConfigDict(extra="ignore")

    begin: ClassVar[str] = "created"

    created: str | None = None
    updated: str | None = None
    health: Health | None = None


class _Record(document.Model):
    # The input of a failed validation may be a secret.
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    key: ClassVar[str] = "id"
    parts: ClassVar[tuple[str, ...]] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_original_spellings(cls, data: object) -> object:
        """Accepts `authrequired`, `AuthRequired` (infra/platform-facts.md 6.2), and null for the default."""
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        if not data.keys() <= fields.keys():
            folded = {name.replace("_", ""): name for name in fields}
            renamed: dict[str, str] = {key: key if key in fields else folded.get(str(key).lower(), str(key)) for key in data}
            if len(set(renamed.values())) == len(data):
                data = {renamed[key]: value for key, value in data.items()}
        return {key: _default(fields.get(str(key))) if value is None else value for key, value in data.items()}

    @property
    def address(self) -> str:
        """The key among its siblings: the id or, of an endpoint, the URL."""
        return str(getattr(self, self.key))


def _default(info: pydantic.fields.FieldInfo | None) -> object:
    default: object = None if info is None or info.is_required() else info.default
    return default


class Endpoint(_Record):
    """A URL of a service; an internal one is reachable from the extension's own zone only."""

    key: ClassVar[str] = "url"

    url: _Url
    extension_id: _Identifier = ""
    service_id: _Identifier = ""
    type: Literal["internal", "external"] = "external"
    configuration: _Configuration = {}
    status: EndpointStatus = EndpointStatus()


class Credentials(_Record):
    """A set of secret key-values of a service, with the scope, projects and users that it applies to.

    `files` names the keys whose values a step gets as files, each with its path in a folder that the engine chooses.
    """

    id: _Identifier = ""
    extension_id: _Identifier = ""
    service_id: _Identifier = ""
    default: bool = False
    scope: Literal["global", "project", "user"] = "global"
    projects: _Names = ()
    users: _Names = ()
    configuration: _Secrets = {}
    files: _Files = {}
    status: CredentialsStatus = CredentialsStatus()


class Service(_Record):
    """One API or UI of an extension."""

    parts: ClassVar[tuple[str, ...]] = ("endpoints", "credentials")

    id: _Identifier = ""
    extension_id: _Identifier = ""
    resource: _Name = ""
    category: _Name = ""
    auth_required: bool = False
    description: _Description = ""
    configuration: _Configuration = {}
    endpoints: Annotated[tuple[Endpoint, ...], pydantic.Field(max_length=LIMITS["endpoints"])] = ()
    credentials: Annotated[tuple[Credentials, ...], pydantic.Field(max_length=LIMITS["credentials"])] = ()
    status: Status = Status()


class Extension(_Record):
    """A registered installation of a product. `revision` counts the changes of the record and its parts."""

    parts: ClassVar[tuple[str, ...]] = ("services",)

    id: _Identifier = ""
    product: _Name = ""
    version: _Name = ""
    description: _Description = ""
    zone: _Name = ""
    configuration: _Configuration = {}
    services: Annotated[tuple[Service, ...], pydantic.Field(max_length=LIMITS["services"])] = ()
    status: Status = Status()
    revision: Annotated[int, pydantic.Field(ge=0)] = 0


Part = Service | Endpoint | Credentials
MODELS: Mapping[str, type[Part]] = {"services": Service, "endpoints": Endpoint, "credentials": Credentials}
"""The model of a part by the name of its list."""

Record = TypeVar("Record", bound=Extension | Service | Endpoint | Credentials)


def replaced(record: Record, values: Mapping[str, object]) -> Record:
    """A copy with some fields replaced."""
    # `model_copy` loses the type behind a bound type variable.
    return cast(Record, record.model_copy(update=dict(values)))


def map_secrets(record: Record, change_value: Callable[[str], str]) -> Record:
    """The record with every credentials value passed through `change_value`; placeholders stay."""
    changes: dict[str, object] = {}
    if isinstance(record, Credentials):
        changes["configuration"] = {key: value if value == HIDDEN else change_value(value) for key, value in record.configuration.items()}
    for name in record.parts:
        parts: tuple[Part, ...] = getattr(record, name)
        changes[name] = tuple(map_secrets(part, change_value) for part in parts)
    # Empty fields stay untouched, so that a patch keeps its set of named fields.
    return replaced(record, {name: value for name, value in changes.items() if value})


def hidden(record: Record) -> Record:
    """The record with `<hidden>` for every credentials value, as responses show it."""
    return map_secrets(record, lambda _: HIDDEN)
