"""The step contract in code: inputs from the environment, outputs as files, one line on stderr as the cause of a failure.

It needs only the standard library, so it can be copied into any image. No message contains a secret (a token, a password in a URL).
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

RESULTS = "/tekton/results"
_PAUSES = (0.5, 1.0, 2.0)
_MAX_ANSWER = 32 * 1024 * 1024
_MAX_FILE = 4 * 1024 * 1024
_BLOCK = 1 << 20


class StepError(Exception):
    """The step failed; the message names the problem, its place and the remedy."""


class HttpError(StepError):
    """A server refused or did not answer. `status` is 0 without an answer; `answer` is its decoded body."""

    def __init__(self, message: str, status: int = 0, answer: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


@dataclass(frozen=True)
class Context:
    """The run of this step. A field without a variable of the engine is empty, as in a step that is started by hand."""

    run: str
    workflow: str
    step: str
    project: str
    codeset: str
    commit: str


def search_path() -> str:
    """PATH with the programs of this step's environment first."""
    # `absolute`, not `resolve`: the interpreter of a virtual environment is a link, and the folder of the link is the right one.
    return str(Path(sys.executable).absolute().parent) + os.pathsep + os.environ.get("PATH", os.defpath)


def variable(name: str) -> str:
    """The environment variable of the input `name`: `app-name` is FUSEML_APP_NAME."""
    return "FUSEML_" + name.upper().replace("-", "_")


def input(name: str, default: str | None = None) -> str:
    """The value of an input, or `default` for an empty one: a workflow cannot omit an input. Raises StepError without either."""
    value = os.environ.get(variable(name), "") or default
    if value is None:
        raise StepError(f"the input '{name}' is missing: add it to the workflow step, or set {variable(name)}")
    return value


def output(name: str, value: str) -> None:
    """Write an output for the engine, atomically. Raises StepError if the folder cannot be written."""
    folder = Path(os.environ.get("FUSEML_ENV_RESULTS", "") or RESULTS)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise StepError(f"'{name}' cannot be the name of an output: use letters, digits, '-', '_' and '.'")
    partial = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(value, encoding="utf-8")
        partial.replace(folder / name)
    except OSError as error:
        raise StepError(
            f"cannot write the output '{name}' to {folder} ({error.strerror}): set FUSEML_ENV_RESULTS to a folder for outputs"
        ) from error


def first_output(default: str) -> str:
    """The name of the first output in the workflow, which gets the main result of a step."""
    return os.environ.get("TASK_RESULT", "") or default


def context() -> Context:
    """The engine's variables of this step; project and codeset fall back to the identity files of the checkout."""

    def value(name: str) -> str:
        return os.environ.get(f"FUSEML_ENV_{name}", "")

    return Context(
        run=value("RUN"),
        workflow=value("WORKFLOW_NAME"),
        step=value("STEP"),
        project=value("PROJECT") or _identity("_org"),
        codeset=value("CODESET") or _identity("_project"),
        commit=value("COMMIT"),
    )


def _identity(name: str) -> str:
    try:
        return read_file(Path.cwd(), f".fuseml/{name}").strip()
    except StepError:
        return ""


def codeset_root(folder: Path) -> Path:
    """The checkout that holds `folder`: one above it for a step whose codeset has a `folder`, else `folder` itself."""
    parts = [part for part in os.environ.get("FUSEML_ENV_FOLDER", "").split("/") if part not in ("", ".")]
    if parts and list(folder.parts[-len(parts) :]) == parts:
        return folder.parents[len(parts) - 1]
    return folder


def read_file(folder: Path, name: str) -> str:
    """The text of a file of the codeset in `folder`, as `read_bytes`. Raises StepError for one that is not UTF-8, too."""
    try:
        return read_bytes(folder, name).decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise StepError(f"cannot read the file '{name}' of the codeset: it is not UTF-8 text") from error


def read_bytes(folder: Path, name: str, root: Path | None = None) -> bytes:
    """The content of a file of the codeset, by its path from `folder`. Links within the codeset, whose root is `root`, are followed.

    Raises StepError for a file outside the codeset, of more than 4 MiB, or of another kind: an earlier step may have put a FIFO there.
    """
    top = os.path.realpath(root or codeset_root(folder))
    file = os.path.realpath(folder / name)
    if os.path.commonpath([top, file]) != top:
        raise StepError(f"'{name}' is outside the codeset; use a file of the codeset")
    try:
        with open(file, "rb", opener=_open_without_blocking) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise StepError(f"cannot read the file '{name}' of the codeset: it is not a regular file")
            if status.st_size > _MAX_FILE:
                raise StepError(f"cannot read the file '{name}' of the codeset: it is larger than 4 MiB")
            return opened.read(_MAX_FILE)
    except OSError as error:
        raise StepError(f"cannot read the file '{name}' of the codeset: {error.strerror}") from error


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def say(message: str) -> None:
    """Log one line of progress, at once."""
    sys.stdout.write(redact(message) + "\n")
    sys.stdout.flush()


def fail(message: str) -> NoReturn:
    """Fail the step. The message becomes the run's cause, so it is written as one line."""
    sys.stdout.flush()
    sys.stderr.write(redact(" ".join(message.split())) + "\n")
    raise SystemExit(1)


def run(main: Callable[[], None]) -> None:
    """Run a step's main function; a StepError ends it with its message instead of a traceback."""
    try:
        main()
    except StepError as error:
        fail(str(error))


def redact(text: str) -> str:
    """The text with user and password of every URL masked."""
    return re.sub(r"(?<=://)[^/\s@]+@", "***@", text)


def http(
    method: str,
    url: str,
    payload: object = None,
    *,
    content: bytes | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    patient: bool = True,
    verify: ssl.SSLContext | None = None,
    raw: bool = False,
) -> object:
    """Call an HTTP API. Returns its decoded JSON answer, or its text where it is not JSON; its bytes if `raw`.

    `payload` is sent as JSON, `content` as it is; the URL may hold credentials; `timeout` is in seconds. If `patient`, a server that refuses
    connections or is briefly unavailable is retried for a few seconds; a request that may have been processed is not repeated. Redirects are
    refused, because they would carry the token to another host. Raises HttpError with the server's own message.
    """
    request, public = _request(method, url, payload, token, headers or {}, content)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=verify))
    for pause in (*(_PAUSES if patient else ()), None):
        try:
            with opener.open(request, timeout=timeout) as response:
                answered = response.read(_MAX_ANSWER)
                return answered if raw else _decoded(answered)
        except urllib.error.HTTPError as error:
            with error:
                answer = _decoded(error.read(_MAX_ANSWER))
            if pause is None or error.code not in (429, 502, 503, 504) or method not in ("GET", "PUT", "DELETE"):
                raise HttpError(f"{method} {public}: {error.code}: {_message(answer) or error.reason}", error.code, answer) from None
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors; HTTPException is a garbled answer
            reason = getattr(error, "reason", error)
            if pause is None or not (isinstance(reason, ConnectionRefusedError) or method == "GET"):
                raise HttpError(f"{method} {public}: no answer ({reason}): is the server running, and reachable from here?") from error
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def blocks(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    verify: ssl.SSLContext | None = None,
) -> Iterator[bytes]:
    """The whole body that GET of the URL gives, block by block, from one attempt; see `http`. Raises HttpError, also for a body that is cut off."""
    request, public = _request("GET", url, None, token, headers or {})
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=verify))
    try:
        with opener.open(request, timeout=timeout) as response:
            while block := response.read(_BLOCK):
                yield block
            if response.length:
                raise HttpError(f"GET {public}: the answer ended {response.length} bytes before its end")
    except urllib.error.HTTPError as error:
        with error:
            answer = _decoded(error.read(_MAX_ANSWER))
        raise HttpError(f"GET {public}: {error.code}: {_message(answer) or error.reason}", error.code, answer) from None
    except (OSError, HTTPException) as error:
        raise HttpError(f"GET {public}: no answer ({getattr(error, 'reason', error)})") from error


def _request(
    method: str, url: str, payload: object, token: str | None, headers: Mapping[str, str], content: bytes | None = None
) -> tuple[urllib.request.Request, str]:
    """The request, and its URL without credentials and query for messages."""
    parts = urllib.parse.urlsplit(url)
    public = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise HttpError(f"'{public}' is not an http or https URL")
    sent = dict(headers)
    if token:
        sent["Authorization"] = f"Bearer {token}"
    elif parts.username is not None:
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        sent["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    body = content
    if content is not None:
        sent["Content-Type"] = "application/octet-stream"
    if payload is not None:
        body = json.dumps(payload).encode()
        sent["Content-Type"] = "application/json"
    address = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    return urllib.request.Request(address, data=body, method=method, headers=sent), public  # noqa: S310 (the scheme is checked above)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _decoded(body: bytes) -> object:
    try:
        answer: object = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return answer


def _message(answer: object) -> str:
    """The message in an error body: `message` in FuseML's and MLflow's, `error` in the Open Inference Protocol's."""
    if isinstance(answer, dict):
        return str(answer.get("message") or answer.get("error") or answer.get("detail") or "")
    return " ".join(str(answer or "").split())[:300]
