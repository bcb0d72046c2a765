"""``handfast demo``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console

from handfast.errors import EnvironmentProblem
from handfast.files import write_atomically
from handfast.lab.demo.live import Screen
from handfast.lab.demo.run import DemoOptions, run_demo


@click.command()
@click.option(
    "--boards", default=3, show_default=True, type=click.IntRange(1, 200), help="How many."
)
@click.option(
    "--board",
    "profile",
    default="sim-pico-w",
    show_default=True,
    type=click.Choice(["sim-pico-w", "sim-esp32", "qemu-mps2"]),
    help="Which kind of board: two simulated ones, and an emulated one, which is slower.",
)
@click.option(
    "--lifetime",
    "lifetime_s",
    type=click.IntRange(15, 86_400),
    help="Life of a board's certificate in seconds; 15, or a second a board if that is more.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write checks and totals to this file.",
)
@click.option(
    "--keep",
    "keep_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep CAs, registry, logs, flash images and serial captures in this new folder.",
)
def command(
    boards: int,
    profile: str,
    lifetime_s: int | None,
    json_file: Path | None,
    keep_dir: Path | None,
) -> int:
    """Show the whole life of a few boards, and check it.

    Makes CAs, starts a gateway and simulated boards, provisions them over serial, and lets them
    enrol, call and renew. Meanwhile it cuts the power, lies about the time and tries to get in
    without right; at the end it revokes the boards. Exits 1 if any check fails.
    """
    if json_file is not None and not os.access(json_file.absolute().parent, os.W_OK):
        raise EnvironmentProblem(f"cannot write {json_file}: choose a folder that can be written")
    options = DemoOptions(boards=boards, profile=profile, lifetime_s=lifetime_s, keep_dir=keep_dir)
    screen = Screen(Console())
    report = run_demo(options, screen)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(report.as_json(), indent=2) + "\n").encode())
    screen.summary(report)
    return 0 if report.passed else 1
