"""The entry point of the `fuseml` command: the tree of commands, the global flags, and the exit codes.

Exit codes: 0 success, 1 failure (a closed output pipe included), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import contextvars
import copy
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from fuseml.cli import (
    agents,
    applications,
    artifacts,
    backup,
    cache,
    catalogs,
    codesets,
    config,
    current,
    deployment,
    events,
    extensions,
    failure,
    fields,
    global_options,
    models,
    options,
    original,
    pipelines,
    projects,
    resolve,
    runnables,
    runs,
    secrets,
    server,
    settings,
    short_options,
    sign_in,
    sources,
    starters,
    terminal,
    why,
    workflows,
)
from fuseml.cli.demo.command import demo
from fuseml.domain import errors

app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}, **options.GROUP)

app.command(epilog=options.examples("fuseml up", "fuseml up --port 0 --mlflow none --home /tmp/try"))(server.up)
app.command(epilog=options.examples("fuseml demo", "fuseml demo --keep"))(demo)
app.command(epilog=options.examples("fuseml init", "fuseml init mlproject wine", "fuseml init notebook ./study -n wine"))(starters.init)
app.command(
    cls=codesets.Push, epilog=options.examples("fuseml push -p demo -n diabetes", "fuseml push ./model -p demo -n diabetes --wait")
)(codesets.push)
app.command(no_args_is_help=True, epilog=options.examples("fuseml login https://fuseml.example.org", "fuseml login URL --token - < token"))(
    sign_in.login
)
app.command(epilog=options.examples("fuseml logout"))(sign_in.logout)
app.command(epilog=options.examples("fuseml whoami"))(sign_in.whoami)
app.command(epilog=options.examples("fuseml status", "fuseml status --cluster"))(server.status)
app.command(epilog=options.examples("fuseml version -o json", "fuseml version --plugins"))(server.version)
app.command(no_args_is_help=True, epilog=options.examples("fuseml backup fuseml.backup", "fuseml backup /mnt/disk/$(date +%F).fuseml"))(
    backup.backup
)
app.command(
    no_args_is_help=True, epilog=options.examples("fuseml restore fuseml.backup", "fuseml restore fuseml.backup --home /srv/fuseml")
)(backup.restore)
app.command(
    no_args_is_help=True,
    epilog=options.examples("fuseml resolve -r mlflow-tracking", "fuseml resolve --product mlflow --version '>=3' --explain"),
)(resolve.resolve)
app.command(epilog=options.examples("fuseml why", "fuseml why 3f2a91c", "fuseml why mlflow-e2e-1", "fuseml why 42"))(why.why)
app.command(name="help", epilog=options.examples("fuseml help", "fuseml help run logs"))(original.help_)
_HIDDEN: dict[str, Any] = {"hidden": True, "cls": options.Named}
app.command(name="delete", epilog=options.examples("fuseml delete diabetes"), **_HIDDEN)(original.delete)
app.command(name="create-org", epilog=options.examples("fuseml create-org demo"), **_HIDDEN)(projects.create)
app.command(name="target", epilog=options.examples("fuseml target demo"), **_HIDDEN)(projects.set_)
_FREE = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}
app.command(context_settings=_FREE, epilog=options.examples("fuseml install --dry-run", "fuseml install --image IMAGE --dry-run"))(
    deployment.install
)
app.command(context_settings=_FREE, epilog=options.examples("fuseml upgrade --dry-run", "fuseml upgrade --registry MIRROR"))(
    deployment.upgrade
)
app.command(context_settings=_FREE, epilog=options.examples("fuseml uninstall", "fuseml uninstall --yes"))(deployment.uninstall)
for _name, _group in (
    ("project", projects.app),
    ("codeset", codesets.app),
    ("workflow", workflows.app),
    ("run", runs.app),
    ("application", applications.app),
    ("model", models.app),
    ("artifact", artifacts.app),
    ("runnable", runnables.app),
    ("pipeline", pipelines.app),
    ("catalog", catalogs.app),
    ("source", sources.app),
    ("agent", agents.app),
    ("events", events.app),
    ("extension", extensions.app),
    ("secrets", secrets.app),
    ("cache", cache.app),
    ("config", config.app),
):
    app.add_typer(_group, name=_name)


@app.callback(epilog=options.examples("fuseml up", "fuseml push . -p demo -n diabetes --wait", "fuseml run list -o json"))
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version of this command.", is_eager=True, callback=server.print_version)
    ] = False,
) -> None:
    """GitOps for machine learning: push code, train, serve, with the tools you choose."""


_WITH_VALUES = ("--url", "-u", "--token", "--timeout", "--home", "--config-file")
"""The options before a command that take a value."""


def _needed(arguments: Sequence[str]) -> typer.Typer:
    """The application, without the groups that these arguments cannot mean: most of the start would be spent on their commands.

    It has all of them for `help`, and where the first argument is no command, because the help and the refusal name them.
    """
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUES:
            next(words, None)
        elif not word.startswith("-"):
            break
    else:
        return app
    known = {info.name for info in app.registered_groups}
    known |= {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}
    if word not in known or word == "help":
        return app
    needed = copy.copy(app)
    needed.registered_groups = [info for info in app.registered_groups if info.name in arguments]
    return needed


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one command line; the exit code. Errors are printed on standard error, with a traceback only if FUSEML_DEBUG is set."""
    try:
        given = global_options.early(arguments, settings.CliSettings.from_env(environment))
        command = typer.main.get_command(_needed(arguments))
        global_options.add_to(command)
        current.add_to(command, given)
        fields.add_to(command)
        short_options.add_to(command)
        # The chosen fields hold for this command line only.
        code = contextvars.copy_context().run(command.main, args=list(arguments), prog_name="fuseml", standalone_mode=False, obj=given)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # At exit, Python flushes standard output again, which would raise the same error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except TyperException as error:
        return _usage(error)
    except Exception as error:
        return _failed(error, environment)


def _usage(error: TyperException) -> int:
    context: typer.Context | None = getattr(error, "ctx", None)
    message = error.format_message()
    if not message or message.startswith("Usage:"):
        # Without arguments, a command that needs some prints its help.
        terminal.echo(message or (context.get_help() if context else ""), err=True)
        return 2
    terminal.echo(f"error: {message[:1].lower()}{message[1:].rstrip('.')}", err=True)
    if context is not None:
        terminal.echo(f"Try `{context.command_path} --help`.", err=True)
    return error.exit_code


def _failed(error: Exception, environment: Mapping[str, str]) -> int:
    if environment.get("FUSEML_DEBUG"):
        traceback.print_exception(error)
    elif isinstance(error, errors.FusemlError):
        for line in failure.lines(error, token_is_set=bool(environment.get("FUSEML_TOKEN"))):
            terminal.echo(line, err=True)
    else:
        message = " ".join(str(error).split()) or type(error).__name__
        terminal.echo(f"error: {message} (unexpected: set FUSEML_DEBUG=1 for a traceback)", err=True)
    return 1


def main() -> int:
    """Run the installed `fuseml` command."""
    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
