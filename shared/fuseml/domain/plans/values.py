"""Values of a plan: tuples of typed parts, so that a secret never becomes text before an engine passes it to a process."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from fuseml.domain.documents import document


class TextPart(document.Model):
    kind: Literal["text"] = "text"
    text: str


class OutputPart(document.Model):
    """The value of another step's output, known when that step has succeeded."""

    kind: Literal["output"] = "output"
    step: str
    output: str


class SecretPart(document.Model):
    """A reference to one key of one set of credentials, or to the token of a step (`step_token`).

    With a `path`, the step gets a file with the secret, and the value is where the engine has put it: `path` below a folder of its choice.
    """

    kind: Literal["secret"] = "secret"
    extension: str
    service: str
    credentials: str
    key: str
    path: str = ""

    @property
    def ref(self) -> str:
        """The name of the secret among those that are submitted beside the plan."""
        return f"{self.extension}/{self.service}/{self.credentials}/{self.key}"

    @property
    def token_of(self) -> str | None:
        """The step whose token this is; None for credentials."""
        return self.credentials if (self.extension, self.service, self.key) == ("", "step", "token") else None


Part = Annotated[TextPart | OutputPart | SecretPart, pydantic.Field(discriminator="kind")]
Value = tuple[Part, ...]


class Variable(document.Model):
    name: str
    value: Value


def text(value: str) -> Value:
    """A value of one text; empty text gives the empty value."""
    return (TextPart(text=value),) if value else ()


def step_token(step: str) -> SecretPart:
    """The token of the step itself, which is made when the plan is submitted. No extension has an empty id."""
    return SecretPart(extension="", service="step", credentials=step, key="token")
