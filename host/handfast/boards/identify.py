"""Asks a board what it is, and what it was provisioned as."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handfast.boards.frozen_library import ASK, Frozen, cannot_be_imported
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem

CONFIG_FILE = "/mtls/config.json"

_OLDEST_MICROPYTHON = (1, 25)


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What a board says of itself; ``config`` is what it was provisioned with, if it was.

    ``mpy`` is its ``sys.implementation._mpy``: which compiled modules it loads, 0 for none.
    ``inflates`` says whether its MicroPython has `deflate`, which a packed library needs.
    """

    hardware_id: str
    build: str
    version: tuple[int, ...]
    config: Mapping[str, Any]
    has_wifi: bool
    mpy: int
    inflates: bool


def identify(link: SerialLink) -> BoardFacts:
    """Ask the board what it is.

    Raises:
        BoardProblem: it runs no MicroPython, or one that is too old.
    """
    told = literal(
        link,
        "import sys, machine, binascii\n"
        "_i = sys.implementation\n"
        "try:\n import network as _w\n _w = hasattr(_w, 'WLAN')\n"
        "except ImportError:\n _w = False\n"
        "try:\n from deflate import DeflateIO as _d\n _d = True\n"
        "except ImportError:\n _d = False\n"
        "print(repr((_i[0], tuple(_i[1][:3]), getattr(_i, '_build', ''),"
        " binascii.hexlify(machine.unique_id()).decode(), _w, getattr(_i, '_mpy', 0), _d)))\n"
        "del _i, _w, _d",
    )
    name, version, build, hardware_id, has_wifi, mpy, inflates = told
    if name != "micropython" or tuple(version) < _OLDEST_MICROPYTHON:
        raise BoardProblem(
            f"the board at {link.url} runs {name} {'.'.join(map(str, version))}: "
            f"flash MicroPython {'.'.join(map(str, _OLDEST_MICROPYTHON))} or newer"
        )
    config = _read_config(link)
    return BoardFacts(
        hardware_id, build or "board", tuple(version), config, has_wifi, mpy, inflates
    )


def ask_frozen(link: SerialLink) -> Frozen | None:
    """Return the device library that the board's firmware has in it; None for none.

    Raises:
        BoardProblem: the board fails, or its firmware has a library that cannot be imported.
    """
    told = literal(link, ASK)
    if isinstance(told, str):
        raise cannot_be_imported(told, link.url)
    return None if told is None else Frozen(*told)


def _read_config(link: SerialLink) -> Mapping[str, Any]:
    try:
        config = json.loads(link.read_file(CONFIG_FILE) or b"{}")
    except ValueError:  # a damaged one is replaced
        return {}
    return config if isinstance(config, dict) else {}


def literal(link: SerialLink, code: str) -> Any:
    """Run ``code``, which prints one literal, and return it."""
    printed = link.exec(code)
    try:
        return ast.literal_eval(printed.strip())
    except (ValueError, SyntaxError) as error:
        raise BoardProblem(f"the board at {link.url} gave an answer that makes no sense") from error
