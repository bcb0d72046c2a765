"""How QEMU takes a UART on a socket: Debian's, with a machine of its own and a program of ours."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handfast.boards.qemu_board import HEADLESS, serial_options, uart_options

DEADLINE_S = 30.0

# Says that it is there, and sends each octet back that comes to UART1 of mps2-an385 (Arm, AN385: it
# is at 0x40005000; CMSDK APB UART: DATA at 0, STATE at 4, CTRL at 8, BAUDDIV at 16).
READY = b"\x03"
ECHO = struct.pack(
    "<2I16HI",
    *(0x20001000, 8 | 1),  # the stack, and where it starts, in Thumb
    0x4807,  # ldr r0, uart1
    *(0x2110, 0x6101),  # movs r1, #16; str r1, [r0, #16]
    *(0x2103, 0x6081, 0x6001),  # movs r1, #3; str r1, [r0, #8]: both directions; str r1, [r0]
    *(0x6841, 0x2202, 0x4211, 0xD0FB),  # wait: ldr r1, [r0, #4]; movs r2, #2; tst r1, r2; beq wait
    0x6801,  # ldr r1, [r0]
    *(0x6842, 0x07D2, 0xD4FC),  # full: ldr r2, [r0, #4]; lsls r2, r2, #31; bmi full
    *(0x6001, 0xE7F5),  # str r1, [r0]; b wait
    0x40005000,
)


@contextmanager
def machine(program: Path, terminal: int, uart: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A machine whose UART0 is on a terminal, as a board's is, and UART1 on a socket."""
    command = ["qemu-system-arm", "-machine", "mps2-an385", *HEADLESS, "-kernel", str(program)]
    command += [*serial_options("line", terminal, 1), *uart_options("uart", uart.fileno())]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(terminal, uart.fileno()),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, its = os.openpty()
    yield ours
    os.close(its)
    os.close(ours)


def wake(process: subprocess.Popen[bytes]) -> None:
    """Have QEMU look at the line again: it does not when a CMSDK UART is switched on."""
    assert process.stdin is not None
    process.stdin.write(b'{"execute": "qmp_capabilities"}\n')
    process.stdin.flush()


def echoed(line: socket.socket, octets: bytes) -> bytes:
    line.sendall(octets)
    answer = b""
    while len(answer) < len(octets):
        answer += line.recv(4096)
    return answer


@pytest.mark.parametrize("end", ["power", "quit"])
def test_octets_go_both_ways_and_the_socket_outlives_the_machine(
    tmp_path: Path, terminal: int, end: str
) -> None:
    program = tmp_path / "echo.bin"
    program.write_bytes(ECHO)
    ours, its = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    with ours, its:
        for _ in range(2):
            with machine(program, terminal, its) as process:
                assert ours.recv(1) == READY
                wake(process)
                assert echoed(ours, bytes(range(256)) * 8) == bytes(range(256)) * 8
                if end == "quit":  # by itself, where it may hang up in an orderly way
                    process.communicate(b'{"execute": "quit"}\n', DEADLINE_S)
