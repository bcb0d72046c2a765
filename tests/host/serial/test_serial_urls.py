"""Every kind of port, and every way in which one cannot be opened."""

from __future__ import annotations

import os
import random
import resource
import socket
from pathlib import Path

import pytest
from cable import CutCable, SerialServer

from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, SerialPort
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, EnvironmentProblem, UsageError

FILES = {
    "/lib/a.py": b"def f():\n    return 'a'\n" * 300,
    "/b.bin": random.Random(2).randbytes(5000),  # noqa: S311
    "/main.py": b"for n in range(2000): print('line', n)\nprint('mtls: over')\n",
}


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_board_behind_a_serial_server_is_used_like_one_at_hand(
    board: SimulatedBoard, kind: str
) -> None:
    with SerialServer(board.serial_url, kind) as server, SerialLink.open(server.url) as link:
        assert link.exec("print(6 * 7)") == "42\n"
        link.push(FILES)
        assert link.read_file("/b.bin") == FILES["/b.bin"]
        with link.start_application() as console:
            assert console.wait_for_event("over", 20).number == 2001
        assert link.exec("print(6 * 7)") == "42\n"


def test_board_behind_another_pty_is_used_like_one_at_hand(board: SimulatedBoard) -> None:
    with CutCable(board.serial_url) as cable, SerialLink.open(cable.url) as link:
        assert link.push(FILES).copied == tuple(FILES)


def test_link_to_a_symlink_of_the_port_works(board: SimulatedBoard, tmp_path: Path) -> None:
    name = tmp_path / "tty-board"
    name.symlink_to(board.serial_url)
    with SerialLink.open(str(name)) as link:
        assert link.exec("print(6 * 7)") == "42\n"


def test_missing_port_is_a_board_problem() -> None:
    with pytest.raises(BoardProblem, match="no board at /dev/tty-none: plug it in") as caught:
        SerialLink.open("/dev/tty-none")
    assert caught.value.exit_code == 6


def test_file_that_is_no_port_is_a_board_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BoardProblem, match="cannot be used as a serial port"):
        SerialLink.open(str(tmp_path / "file"))


def test_port_without_permission_says_which_group() -> None:
    master, client = os.openpty()
    try:
        path = os.ttyname(client)
        os.chmod(path, 0)  # noqa: PTH101
        if os.geteuid() == 0:
            with pytest.raises(EnvironmentProblem, match="dialout"):
                _open_as_nobody(path)
        else:
            with pytest.raises(EnvironmentProblem, match="dialout"):
                SerialLink.open(path)
    finally:
        os.close(master)
        os.close(client)


def _open_as_nobody(path: str) -> None:
    """Root may open anything: be somebody else for the length of one call (this thread only)."""
    os.seteuid(65534)
    try:
        SerialLink.open(path)
    finally:
        os.seteuid(0)


def test_port_in_use_by_another_program_says_so(board: SimulatedBoard) -> None:
    with SerialLink.open(board.serial_url), pytest.raises(EnvironmentProblem) as caught:
        SerialLink.open(board.serial_url)
    assert "another program holds" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_serial_server_that_does_not_answer_is_a_board_problem(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BoardProblem, match="nothing answers"):
        SerialLink.open(f"{kind}://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["nonsense://x", "socket://127.0.0.1", "socket://127.0.0.1:x"])
def test_bad_url_is_a_usage_error(url: str) -> None:
    with pytest.raises((UsageError, BoardProblem)):
        SerialLink.open(url)


def test_port_whose_descriptor_is_beyond_select_works(board: SimulatedBoard) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2000, hard)), hard))
    handles = [os.open("/dev/null", os.O_RDONLY) for _ in range(1030)]
    try:
        with SerialLink.open(board.serial_url) as link:
            assert link.exec("print(6 * 7)") == "42\n"
    finally:
        for handle in handles:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_board_that_takes_no_input_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handfast.boards.serial_port._WRITE_TIMEOUT_S", 0.2)
    master, client = os.openpty()  # nobody reads at its other end
    try:
        with (
            SerialPort.open(os.ttyname(client)) as port,
            pytest.raises(NoAnswer, match="takes no input"),
        ):
            port.write(bytes(1_000_000))
    finally:
        os.close(master)
        os.close(client)
