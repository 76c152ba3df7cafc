"""The start of a command elsewhere, by the contract of steps: files in `$FUSEML_ENV_RESULTS` are outputs.

The folder ends with the job, so a shell prints the files as the last lines of the log, in base64. Only the first node prints them.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex

from fuseml.steps import sdk

MARK = "::fuseml-output"
_LINE = re.compile(rf"{MARK} ([A-Za-z0-9_][A-Za-z0-9_.-]{{0,99}}) ([A-Za-z0-9+/=]*)")
_MOST = 64 << 10
LINGER = "FUSEML_LINGER"
"""The variable with the seconds for which a failed job stays, so that its last lines can be read; none without it."""

SCRIPT = f"""\
FUSEML_ENV_RESULTS=$(mktemp -d) && export FUSEML_ENV_RESULTS || exit 1
child=
trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
/bin/sh -c "$1" &
child=$!
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
if [ "$code" = 0 ] && [ "${{JOB_COMPLETION_INDEX:-0}}" = 0 ]; then
  for file in "$FUSEML_ENV_RESULTS"/*; do
    [ -f "$file" ] || continue
    text=$(base64 < "$file") || exit 1
    printf '\\n{MARK} %s %s\\n' "${{file##*/}}" "$(printf %s "$text" | tr -d '\\n')"
  done
fi
rm -rf "$FUSEML_ENV_RESULTS"
[ "$code" = 0 ] || [ -n "$stopped" ] || [ -z "${LINGER}" ] || sleep "${LINGER}"
exit "$code"
"""
"""The program of `sh`; its first argument is the command. It passes a stop on to the command."""


def command(text: str) -> list[str]:
    """The command line that runs a command of the shell by the contract."""
    return ["/bin/sh", "-c", SCRIPT, "fuseml", text]


def file_command(path: str, text: str) -> str:
    """The same as one text, with the script in a file at `path`."""
    return shlex.join(["/bin/sh", path, text])


def output(line: str) -> tuple[str, str] | None:
    """Name and value of a printed output; None for another line. Raises StepError for a value that is no text."""
    match = _LINE.fullmatch(line.strip("\r\n"))
    if match is None:
        return None
    name, encoded = match.groups()
    try:
        value = base64.b64decode(encoded, validate=True)
        if len(value) > _MOST:
            raise sdk.StepError(f"the output '{name}' of the job is larger than {_MOST} bytes; write the address of a file instead")
        return name, value.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise sdk.StepError(f"the output '{name}' of the job is not UTF-8 text") from None
