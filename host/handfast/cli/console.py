"""``handfast board console|shell|run``: a board's output, its prompt, and a program on it.

Commands without a group of their own: :mod:`handfast.cli.board` takes them into its.
"""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from handfast.boards.console import Console
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, SerialPort
from handfast.cli.provision import serial_url
from handfast.errors import UsageError

# Ctrl-], as telnet and miniterm end with it: no prompt has a use for it.
_LEAVE = b"\x1d"
_INTERRUPT = b"\x03"
_FRIENDLY_PROMPT = b"\r\x02"
_TURN_S = 0.02
_MOST_BYTES = 4096
_FOREVER_S = float("inf")

_board = click.option(
    "--board", required=True, help="A running simulated board's name, or a serial port."
)


@click.command("console")
@_board
@click.option("--time", "stamped", is_flag=True, help="Put the time (UTC) before each line.")
@click.option("--restart", is_flag=True, help="Start the application anew first.")
@click.option("--until", metavar="REGEX", help="End when a line matches; by default at Ctrl-C.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=0), help="Give up on --until after this time."
)
def console(
    board: str, stamped: bool, restart: bool, until: str | None, timeout_s: float | None
) -> None:
    """Print what a board prints, without disturbing it."""
    if timeout_s is not None and until is None:
        raise UsageError("--timeout-s is the time for --until: give both")
    pattern = None if until is None else _pattern(until)
    limit_s = _FOREVER_S if timeout_s is None else timeout_s
    with (
        SerialLink.open(serial_url(board)) as link,
        link.start_application() if restart else link.console() as lines,
    ):
        _follow(lines, stamped, pattern, limit_s)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"--until {text!r} is not a regular expression: {error}") from error


def _follow(lines: Console, stamped: bool, until: re.Pattern[str] | None, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    shown = 0
    while True:
        try:
            line = lines.wait_for("", max(0.0, deadline - time.monotonic()), after=shown)
        except NoAnswer as error:
            wanted = "" if until is None else f" {until.pattern!r}"
            raise NoAnswer(
                f"the board at {lines.url} did not print{wanted} within {limit_s:g} s"
            ) from error
        shown = line.number
        click.echo(f"{line.at:%H:%M:%S.%f} {line.text}" if stamped else line.text)
        if until is not None and until.search(line.text):
            return


@click.command("run")
@_board
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--timeout-s", type=click.FloatRange(min=0), help="By default it may take forever.")
def run(board: str, file: Path, timeout_s: float | None) -> None:
    """Run a Python file on a board, print what it prints as it comes; - is stdin.

    The board keeps what it has in memory. Ctrl-C stops the program on the board.
    """
    try:
        code = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as a program: {error}") from error
    with SerialLink.open(serial_url(board)) as link:
        try:
            limit_s = _FOREVER_S if timeout_s is None else timeout_s
            link.exec(code, limit_s, show=lambda text: click.echo(text, nl=False))
        except (KeyboardInterrupt, NoAnswer):
            link.interrupt()
            raise


@click.command("shell")
@_board
@click.option("--interrupt", is_flag=True, help="Stop the application that runs (Ctrl-C) first.")
def shell(board: str, interrupt: bool) -> None:
    """Talk to a board's prompt; Ctrl-] leaves it."""
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal: use `handfast board run` for a program")
    with closing(SerialPort.open(serial_url(board))) as port:
        click.echo(f"{port.url}: Ctrl-] leaves", err=True)
        port.write((_INTERRUPT if interrupt else b"") + _FRIENDLY_PROMPT)
        with _raw_terminal(sys.stdin.fileno()) as keyboard:
            _talk(port, keyboard, sys.stdout.fileno())
    click.echo("", err=True)


@contextmanager
def _raw_terminal(handle: int) -> Iterator[int]:
    """Pass every key on as it is pressed; the terminal is as it was afterwards."""
    before = termios.tcgetattr(handle)
    try:
        tty.setraw(handle)
        yield handle
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _talk(port: SerialPort, keyboard: int, screen: int) -> None:
    while True:
        if received := port.receive(_TURN_S):
            os.write(screen, received)
        if not select.select([keyboard], [], [], 0)[0]:
            continue
        typed, leave, _ = os.read(keyboard, _MOST_BYTES).partition(_LEAVE)
        port.write(typed)
        if leave or not typed:  # nothing typed: the terminal was closed
            return
