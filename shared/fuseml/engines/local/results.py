"""The outputs that a step has written."""

from __future__ import annotations

from collections.abc import Callable

from fuseml.domain import errors, outputs, plans
from fuseml.engines import masking, step_files
from fuseml.engines.local import journal


def read(folder: journal.RunFolder, step: plans.StepPlan, known_secrets: Callable[[], masking.Mask]) -> dict[str, str]:
    """The outputs of the step. `known_secrets` is the mask of the run's secrets.

    Raises PermanentError for an output that is missing, not text, of another kind than a file, or that contains a secret, and if they are
    too large.
    """
    written = {output.name: _read_output(folder, step.name, output.name) for output in step.outputs}
    if outputs.size(written) > outputs.LIMIT:
        raise errors.PermanentError(outputs.TOO_LARGE)
    # Outputs are published: in events, in the API, to other steps.
    if written:
        mask = known_secrets()
        for name in (name for name, content in written.items() if mask.found_in(content)):
            raise errors.PermanentError(outputs.contains_secret(name))
    return {name: _text(name, content) for name, content in written.items()}


def _read_output(folder: journal.RunFolder, step: str, name: str) -> bytes:
    """The content of an output, cut off right after the limit."""
    remedy = f"write the file $FUSEML_ENV_RESULTS/{name}"
    try:
        return step_files.read(folder.path, "steps", step, "results", name, limit=outputs.LIMIT + 1)
    except FileNotFoundError:
        raise errors.PermanentError(f"it exited with code 0 but did not write its output {name!r}: {remedy}") from None
    except OSError as error:
        raise errors.PermanentError(f"its output {name!r} cannot be read: {error.strerror or error}; {remedy}") from error


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise errors.PermanentError(f"its output {name!r} is not UTF-8 text; write text") from None
    if "\0" in text:
        raise errors.PermanentError(f"its output {name!r} contains a NUL character; write text")
    return text.removesuffix("\n").removesuffix("\r")
