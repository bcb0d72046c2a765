"""The command line: parse, call, print. One module a command group, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys

import click

from handfast import __version__
from handfast.errors import EnvironmentProblem, HandfastError

_GROUPS = {
    "ca": "Make and show the certificate authorities.",
    "gateway": "Run the gateway.",
    "device": "List, show, add, suspend, resume and revoke devices.",
    "token": "Create one-time enrolment tokens.",
    "board": "List, show and check board definitions, and find boards on serial ports.",
    "sim": "Start and stop simulated boards.",
    "firmware": "Build MicroPython with what stock firmware lacks, and the device library.",
    "provision": "Give a board its library, trust anchor, identity and application.",
    "enrol": "Get a certificate for a key that a board or program made itself.",
    "demo": "Show the whole life of a few boards, and check it.",
}


class _LazyGroup(click.Group):
    """Imports a command's module only when that command runs, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        module = importlib.import_module(f"handfast.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_GROUPS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="handfast")
def handfast() -> None:
    """Mutual TLS for MicroPython boards, and the bench that proves it."""


def main() -> None:
    """Run the command line; every :class:`HandfastError` becomes one message and its exit code."""
    try:
        code = handfast(standalone_mode=False)
    except HandfastError as error:
        click.echo(f"handfast: {error}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("handfast: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written, ...
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"handfast: {place}{error.strerror or error}; mend that and try again", err=True)
        sys.exit(EnvironmentProblem.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
