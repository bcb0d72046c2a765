"""``handfast board flash``: put MicroPython on a board, and see that it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from handfast.boards.definition import load_board
from handfast.cli.progress import Tell, progress_bars
from handfast.errors import UsageError

if TYPE_CHECKING:
    from handfast.boards.flash.firmware import Firmware
    from handfast.boards.flash.targets import EspTarget, PicoTarget

_CHECK_S = 30.0
_path = click.Path(path_type=Path)


@click.command()
@click.option("--board", "name", help="What it is: a board's name (see `handfast board list`).")
@click.option("--mcu", help="Its chip instead, as esp32c3 or rp2350.")
@click.option("--port", help="Its serial port: a path, or rfc2217://HOST:PORT.")
@click.option("--firmware", type=_path, help="An image that you have.")
@click.option("--url", help="The address of an image; it is fetched once and kept.")
@click.option("--sha256", help="The image's SHA-256.")
@click.option("--erase", is_flag=True, help="Erase all of the flash first (ESP32).")
@click.option(
    "--before",
    type=click.Choice(["default-reset", "usb-reset", "no-reset", "bootloader"]),
    default="default-reset",
    show_default=True,
    help="How an ESP32 gets to its bootloader: by DTR and RTS, by those of its own USB, not at all "
    "because it is there, or by asking MicroPython or 1200 baud.",
)
@click.option(
    "--after",
    type=click.Choice(["hard-reset", "watchdog-reset", "no-reset"]),
    default="hard-reset",
    show_default=True,
    help="How an ESP32 is started afterwards.",
)
@click.option("--no-stub", is_flag=True, help="Let the ESP32's ROM do it, without esptool's stub.")
@click.option("--baud", type=int, default=460800, show_default=True, help="For the transfer.")
@click.option("--drive", type=_path, help="The folder of a Pico's BOOTSEL drive.")
@click.option("--picotool", is_flag=True, help="Use picotool for a Pico.")
@click.option("--version", "expected_version", help="The MicroPython that must run afterwards.")
@click.option("--build", help="The build that must run afterwards, as RPI_PICO_W.")
@click.option("--no-check", is_flag=True, help="Do not ask the board what it runs afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    name: str | None,
    mcu: str | None,
    port: str | None,
    firmware: Path | None,
    url: str | None,
    sha256: str | None,
    expected_version: str | None,
    build: str | None,
    no_check: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put MicroPython on a board, verify it there, and see that it runs.

    Nothing is written before image, chip and board are known to belong together. After a failure,
    run it again: what has arrived is not written twice.
    """
    from handfast.boards.flash.running import ask_running, compare_running
    from handfast.boards.flash.targets import EspTarget, find_target

    target = find_target(_mcu(name, mcu))
    with progress_bars(quiet=as_json) as tell:
        image = _image(firmware, url, sha256, tell)
        if isinstance(target, EspTarget):
            done = _flash_esp(image, target, port, tell, **options)
        else:
            done = _flash_pico(image, target, port, tell, **options)
        running = None
        if port is not None and not no_check:
            tell("check", 0)
            running = ask_running(port, timeout_s=_CHECK_S)
            compare_running(running, version=expected_version, build=build)
    result = done | {
        "sha256": image.sha256,
        "sha256_recorded": image.recorded,
        "running": None if running is None else asdict(running),
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print(result)


def _mcu(name: str | None, mcu: str | None) -> str:
    if (name is None) == (mcu is None):
        raise UsageError("give --board or --mcu")
    return mcu or load_board(name or "").mcu


def _image(firmware: Path | None, url: str | None, sha256: str | None, tell: Tell) -> Firmware:
    from handfast.boards.flash.firmware import fetch_firmware, local_firmware

    if firmware is not None:
        return local_firmware(firmware, sha256=sha256)
    if url is None:
        raise UsageError("give --firmware or --url")
    return fetch_firmware(url, sha256=sha256, progress=tell)


def _flash_esp(
    image: Firmware,
    target: EspTarget,
    port: str | None,
    tell: Tell,
    *,
    before: Any,
    after: Any,
    no_stub: bool,
    baud: int,
    erase: bool,
    **_: Any,
) -> dict[str, Any]:
    from handfast.boards.flash.esp import EspJob, flash_esp
    from handfast.boards.flash.esp_image import read_esp_image

    if port is None:
        raise UsageError("an ESP32 is flashed over its serial port: give --port")
    job = EspJob(
        port,
        target.chip,
        target.offset,
        before=before,
        after=after,
        stub=not no_stub,
        baudrate=baud,
        erase=erase,
    )
    source = str(image.path)
    content = read_esp_image(image.path.read_bytes(), source=source)
    return asdict(flash_esp(content, job, source=source, progress=tell))


def _flash_pico(
    image: Firmware,
    target: PicoTarget,
    port: str | None,
    tell: Tell,
    *,
    drive: Path | None,
    picotool: bool,
    erase: bool,
    **_: Any,
) -> dict[str, Any]:
    from handfast.boards.flash.pico import PicoJob, flash_pico
    from handfast.boards.flash.uf2 import read_uf2

    if erase:
        raise UsageError("--erase is for an ESP32; a Pico takes flash_nuke.uf2 as its --firmware")
    job = PicoJob(
        target.chip,
        target.families,
        url=None if drive is not None else port,
        drive=drive,
        way="picotool" if picotool else "auto",
    )
    source = str(image.path)
    content = read_uf2(image.path.read_bytes(), source=source)
    return asdict(flash_pico(content, job, source=source, progress=tell))


def _print(result: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None)
    for key in ("chip", "description", "mac", "family", "way"):
        if key in result:
            table.add_row(key, str(result[key]))
    kept = f", {result['kept']} were there" if result.get("kept") else ""
    table.add_row("bytes", f"{result['written']} written{kept}")
    recorded = "as recorded" if result["sha256_recorded"] else "not recorded before"
    table.add_row("SHA-256", f"{result['sha256'][:16]}… ({recorded})")
    if running := result["running"]:
        table.add_row("runs", f"{running['name']} {running['version']} on {running['machine']}")
    table.add_row("took", f"{result['seconds']:.1f} s")
    Console().print(table, highlight=False)
