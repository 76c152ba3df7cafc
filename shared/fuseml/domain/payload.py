"""The parent of the payloads of events."""

from __future__ import annotations

from typing import ClassVar

import pydantic

from fuseml.domain import errors


class Payload(pydantic.BaseModel):
    """The parent of every payload; `TYPE` is the event's type. Unknown fields are ignored, so that older readers accept newer writers."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", defer_build=True)

    TYPE: ClassVar[str]

    @property
    def subject(self) -> str:
        """The subject of the event, for filters and the ledger."""
        raise errors.PermanentError(f"{type(self).__name__} names no subject")

    @property
    def source(self) -> str:
        """The changed resource as a URI reference."""
        return f"/{self.TYPE.split('.')[2]}s/{self.subject}"

    @property
    def identity(self) -> str | None:
        """Equal for two events of this type and subject that report the same fact; None where each event is a fact of its own."""
        return None
