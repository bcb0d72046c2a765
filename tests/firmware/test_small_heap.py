"""A heap too small for a handshake: said to be that, whatever mbedTLS makes of it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from device_interpreter import DEVICE_SCRIPTS, micropython_environment
from hostile_peer import OK, answer, serving
from test_client_on_board import server_ca, server_context

from handfast.boards.builder import build_simulator

# Where mbedTLS lives in the collected heap. At 36 KB it says that the signature is wrong.
PICO = (("sim-pico-w", None), ("sim-pico-w", "1.25.0"))
ESP32 = (("sim-esp32", None), ("sim-esp32", "1.25.0"))


def calls(
    board: tuple[str, str | None], folder: Path, context: ssl.SSLContext, left: int
) -> list[list[object]]:
    """Return [a session fits, how the call ended] with so many bytes left, then with all."""
    root = folder / "store"
    (root / "anchor").mkdir(parents=True)
    (root / "anchor/tls-0.der").write_bytes(server_ca().make().public_bytes(Encoding.DER))
    with serving(answer(OK), context=context) as (port, _):
        url = f"https://127.0.0.1:{port}"
        script = DEVICE_SCRIPTS / "small_heap.py"
        done = subprocess.run(
            [
                build_simulator(board[0], micropython=board[1]),
                "-X",
                "heapsize=240k",
                script,
                root,
                url,
                str(left),
            ],
            env={**os.environ, **micropython_environment()},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("left", [24_000, 34_100, 36_000])
@pytest.mark.parametrize("board", PICO)
def test_a_signature_that_found_no_heap_is_no_distrust(
    board: tuple[str, str | None], tmp_path: Path, left: int
) -> None:
    good = server_context(tmp_path)
    assert calls(board, tmp_path, good, left) == [[False, "OutOfMemory"], [True, "hi"]]


@pytest.mark.parametrize("board", PICO)
def test_a_server_of_another_ca_is_not_talked_to_with_any_heap(
    board: tuple[str, str | None], tmp_path: Path
) -> None:
    other = server_context(tmp_path, ca="other")
    assert calls(board, tmp_path, other, 36_000) == [[False, "OutOfMemory"], [True, "Untrusted"]]


@pytest.mark.parametrize(
    ("board", "left"),
    [*((board, 45_000) for board in PICO), *((board, 17_000) for board in ESP32)],
)
def test_what_is_said_to_fit_does(board: tuple[str, str | None], tmp_path: Path, left: int) -> None:
    good = server_context(tmp_path)
    assert calls(board, tmp_path, good, left) == [[True, "hi"], [True, "hi"]]


@pytest.mark.parametrize("board", ESP32)
def test_an_esp32_needs_less_of_the_collected_heap(
    board: tuple[str, str | None], tmp_path: Path
) -> None:
    good = server_context(tmp_path)
    assert calls(board, tmp_path, good, 4_000) == [[False, "OutOfMemory"], [True, "hi"]]
