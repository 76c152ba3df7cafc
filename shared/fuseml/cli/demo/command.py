"""`fuseml demo`: start a server, run the scenario, stop the server and delete its state, unless --keep or --home is given."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.cli.demo.screen import Terminal
    from fuseml.cli.demo.server import Server
    from fuseml.client import git, shapes

_CHECKOUT = "demo-checkout"


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server running and its state in place.")] = False,
    home: Annotated[
        str, options.option("--home", metavar="DIR", help="A new folder for the state, which is kept; a temporary one by default.")
    ] = "",
) -> None:
    """Push an example, train, serve, change it, on a new server.

    All steps use the API and `git push`. At the end, the server is stopped and its state deleted.
    """
    from fuseml.cli.demo import scenario, screen, server
    from fuseml.client import api, git

    environment = session.settings(context).environment

    def remote(registration: shapes.Registration) -> git.Remote:
        return git.Remote(registration["codeset"]["url"], registration["username"], registration["password"], environment)

    with _clean_up_on_signals(), contextlib.ExitStack() as clean_up:
        folder = _fresh_folder(home)
        if not home:
            clean_up.callback(shutil.rmtree, folder)
        display = screen.Terminal()
        with display.step("Start a server") as note:
            running = server.start(folder, environment)
            note.result = f"{running.url}, state in {folder}"
        clean_up.callback(_stop, running, display)
        try:
            scenario.Scenario(api.Client(running.url, running.token), display, folder / _CHECKOUT, remote).run()
        except errors.FusemlError:
            display.lines("End of the server's log", server.log_end(folder, 10))
            raise
        if keep:
            clean_up.pop_all()
            _print_next_steps(running, folder / _CHECKOUT)
    terminal.echo("The demo has succeeded.")


def _fresh_folder(home: str) -> Path:
    if not home:
        return Path(tempfile.mkdtemp(prefix="fuseml-demo-")).resolve()
    folder = Path(home).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise errors.InvalidError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _clean_up_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo through its clean-up, as Ctrl-C does."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(running: Server, terminal: Terminal) -> None:
    # A second Ctrl-C must not interrupt the clean-up that the first one started.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with terminal.step("Stop the server"):
            killed = running.stop()
            if killed:
                raise errors.PermanentError(f"processes had to be killed: {'; '.join(killed)}")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _print_next_steps(running: Server, checkout: Path) -> None:
    rows: Mapping[str, object] = {
        "URL": running.url,
        "Token": running.home / "token",
        "Checkout": checkout,
        "Log": running.home / "demo-server.log",
        "Try": f"FUSEML_HOME={running.home} fuseml run list",
        "Stop": f"kill {running.process.pid}",
    }
    for title, value in rows.items():
        terminal.echo(f"{title + ':':<10}{value}")
