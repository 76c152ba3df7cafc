"""`fuseml up`: composes the functions and their stand-ins, serves them, and ends all of them with itself."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import logging
import os
import pathlib
import resource
import secrets as tokens_of_python
import shlex
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from fuseml.domain import errors
from fuseml.embedded import composition, home, http_server, tracking_proxy
from fuseml.embedded.chaos import NONE, Chaos
from fuseml.embedded.step_options import StepOptions
from fuseml.processes import landlock
from fuseml.runtime import secrets, telemetry
from fuseml.runtime.telemetry import logs
from fuseml.steps import loading

_log = logging.getLogger("fuseml.server")

_FILES = 1 << 16
_MOST_CONNECTIONS = 1000
_SIGNAL_SECONDS = 0.5
# After SIGTERM: for requests in progress, and for everything.
_REQUEST_SECONDS = 5.0
_END_SECONDS = 14.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the server. `mlflow` is auto, none or a URL; `public_urls` are its addresses behind proxies; child processes inherit from
    `environment`. `log_format` (json or text) is that of the standard error; `rotation` is that of each log in the home; spans go to
    `otlp_endpoint`. Commands in another shell find the server without a setting if `is_default_home`.
    """

    home: pathlib.Path
    environment: Mapping[str, str]
    host: str = "127.0.0.1"
    port: int = 8000
    mlflow: str = "auto"
    anonymous: bool = False
    public_urls: Sequence[str] = ()
    chaos: Chaos = NONE
    steps: StepOptions = field(default_factory=StepOptions)
    log_format: str = "text"
    rotation: logs.Rotation = logs.DEFAULT_ROTATION
    otlp_endpoint: str = ""
    is_default_home: bool = True


def serve(options: Options) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code. Raises PermanentError when it cannot start."""
    if options.anonymous and options.host not in ("127.0.0.1", "::1", "localhost"):
        raise errors.PermanentError("--anonymous needs no token and is only for loopback; leave it out, or use --host 127.0.0.1")
    options = dataclasses.replace(options, home=home.claim(options.home))
    (options.home / "logs").mkdir(exist_ok=True)
    files = _allow_many_files()
    logs.to_file(options.home / "logs" / "server.log", options.log_format, options.rotation)
    telemetry.export("fuseml", options.otlp_endpoint)
    with _owning(options.home), _listening(options) as listener:
        url = f"http://{_reachable(options.host)}:{listener.getsockname()[1]}"
        token = secrets.read_or_create(options.home / "token", tokens_of_python.token_urlsafe(32))
        with loading.kept():
            parts = composition.compose(
                options.home,
                url,
                token,
                mlflow=options.mlflow,
                anonymous=options.anonymous,
                environment=options.environment,
                steps=options.steps,
                trouble=options.chaos,
                host=options.host,
                public_urls=options.public_urls,
                rotation=options.rotation,
            )
        limits = http_server.Limits(connections=min(_MOST_CONNECTIONS, files // 4))
        server = http_server.HttpServer(parts.gateway, listener, parts.admissions.admit, limits)
        stopping = _stop_on_signals()
        serving = threading.Thread(target=server.run, name="http", daemon=True)
        with parts.running(lambda: _stop_requests(server, serving)):
            try:
                serving.start()
                _publish_url(options.home / "url", url)
                _greet(options, url, parts.readiness(), str(parts.stand_ins.devices))
                # A signal that the kernel delivers to another thread does not wake this one, so the wait is bounded.
                while not stopping.wait(_SIGNAL_SECONDS):
                    if not serving.is_alive():
                        raise errors.PermanentError("the HTTP server has ended unexpectedly; the log has the cause")
                print("Stopping...", flush=True)  # noqa: T201
                _end_in_time()
            finally:
                (options.home / "url").unlink(missing_ok=True)
    return 0


def _stop_requests(server: http_server.HttpServer, serving: threading.Thread) -> None:
    server.stop(_REQUEST_SECONDS)
    if serving.ident is not None:
        serving.join()


def _end_in_time() -> None:
    """End this process after a bound, whatever still holds it, such as a check of a tool that does not answer."""
    timer = threading.Timer(_END_SECONDS, _end_now)
    timer.daemon = True
    timer.start()


def _end_now() -> None:
    _log.warning("the server ends with work in progress; the next start continues it")
    logging.shutdown()
    # Everything on disk survives a kill at any moment.
    os._exit(0)


def _publish_url(path: pathlib.Path, url: str) -> None:
    # A reader of the file must never see it empty.
    partial = path.with_name(".url.partial")
    partial.write_text(url + "\n")
    partial.replace(path)


def _allow_many_files() -> int:
    """Allow more open files; the number of allowed ones."""
    # Shells allow 1,024; the reading of a repository after a hundred pushes opens two hundred.
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if allowed != resource.RLIM_INFINITY and allowed < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        return limit
    return _FILES if allowed == resource.RLIM_INFINITY else allowed


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
    return stopping


@contextlib.contextmanager
def _owning(folder: pathlib.Path) -> Iterator[None]:
    """Lock the home: two servers on one state would deliver every event twice. Raises PermanentError when another server has the lock."""
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "?"
            raise errors.PermanentError(
                f"another FuseML server (process {owner}) uses {folder}; stop it, or choose another folder with --home"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def _listening(options: Options) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((options.host, options.port), backlog=128)
    except OSError as error:
        raise errors.PermanentError(
            f"cannot listen on {options.host}:{options.port} ({error.strerror}); choose another port with --port, 0 takes a free one"
        ) from error
    with listener:
        yield listener


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "localhost") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound


def confinement_of(steps: StepOptions) -> str:
    """Whether steps are confined, for the start of the server."""
    if not steps.confined:
        return "not confined (FUSEML_STEP_CONFINEMENT=off): they can read and change all files of this user"
    abi = landlock.abi()
    if not abi:
        return "not confined, because this kernel has no Landlock: they can read and change all files of this user"
    return f"confined by Landlock (ABI {abi})"


def _greet(options: Options, url: str, state: Mapping[str, Any], devices: str) -> None:
    mlflow = state["components"]["mlflow"]
    lines = [
        f"FuseML {importlib.metadata.version('fuseml')} is ready at {url}",
        f"  token   {options.home / 'token'}" if not options.anonymous else "  token   none needed (--anonymous)",
        f"  state   {options.home}",
        f"  log     {options.home / 'logs' / 'server.log'}",
        f"  mlflow  {' '.join(str(mlflow[key]) for key in ('status', 'url', 'message') if key in mlflow)}",
        *(
            [f"          UI: {url}{tracking_proxy.PREFIX}/, sign in with the token; clients: MLFLOW_TRACKING_TOKEN"]
            if options.mlflow == "auto" and "url" in mlflow and not options.anonymous
            else []
        ),
        f"  steps   {confinement_of(options.steps)}",
        *([f"  zone    {zone}"] if (zone := options.environment.get("FUSEML_ZONE", "")) else []),
        *([f"  devices {devices}; a step that asks for one has it alone, other steps see none"] if devices else []),
        "Ctrl-C stops it.",
    ]
    if not options.is_default_home:
        lines.insert(-1, f"  shell   export FUSEML_HOME={shlex.quote(str(options.home))}  # for commands in another shell")
    if options.chaos != NONE:
        lines.insert(
            -1, f"  chaos   {options.chaos}\n          WARNING: events are lost, repeated and late on purpose; not for work that counts"
        )
    print("\n".join(lines), flush=True)  # noqa: T201
