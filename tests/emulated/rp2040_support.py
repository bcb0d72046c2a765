"""What is done to an emulated RP2040 in more than one of its lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handfast.boards.flash.flash_board import loader_of
from handfast.boards.flash.pico import PicoFlashed, PicoJob, flash_pico
from handfast.boards.flash.uf2 import read_uf2
from handfast.boards.rp2040 import HOST_FROM_BOARD, EmulatedRp2040
from handfast.boards.serial_link import SerialLink
from handfast.lab.gateway_process import GatewayOptions

PATIENCE_S = 240.0  # several times what the slowest step takes on two idle cores


def gateway_options(*, resume_port: int | None = None) -> GatewayOptions:
    """Return those of a gateway that has time for such a board."""
    return GatewayOptions(
        boards_at=HOST_FROM_BOARD, overlap_s=2, handshake_s=PATIENCE_S, resume_port=resume_port
    )


def flash(board: EmulatedRp2040, uf2: Path, *, running: bool) -> PicoFlashed:
    """Flash the board as a user does: the code under test is that for boards of hardware."""
    loader = loader_of(board.definition)
    job = PicoJob(
        board.definition.mcu,
        frozenset(loader.uf2_family_ids),
        loader.uf2_board_id or "",
        url=board.serial_url if running else None,
        way="drive",
        roots=[board.media],
        restart_within_s=PATIENCE_S,
    )
    return flash_pico(read_uf2(uf2.read_bytes(), source=uf2.name), job, source=uf2.name)


def run(board: EmulatedRp2040, code: str) -> str:
    """Interrupt what runs, run code, and return what it printed."""
    with SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=PATIENCE_S)
        return link.exec(code, PATIENCE_S).strip()


def connections(log: Path) -> int:
    """How many requests and failed handshakes a gateway has heard of, at all listeners."""
    return sum(line["event"] in ("request", "tls_refused") for line in _lines(log))


def refusals(log: Path) -> list[str]:
    """Why handshakes at the gateway's api listener have failed, by its log."""
    return [
        line["reason"]
        for line in _lines(log)
        if (line["event"], line.get("listener")) == ("tls_refused", "api")
    ]


def _lines(log: Path) -> list[dict[str, Any]]:
    whole = log.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
